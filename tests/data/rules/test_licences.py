"""Allow-lists of licences."""

from __future__ import annotations

import pytest

from astraios.data.rules.licences import (
    COPYLEFT,
    NONE,
    PERMISSIVE,
    PUBLISHED,
    allows,
    licence_rule,
    normalised,
)
from astraios.errors import ConfigError

from .commit_cases import commit


def test_permissive_and_copyleft_licences_make_up_the_published_list() -> None:
    assert len(PUBLISHED) == 12
    assert PERMISSIVE | COPYLEFT == PUBLISHED
    assert not PERMISSIVE & COPYLEFT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("MIT", "mit"),
        (" MIT License ", "mit"),
        ("The MIT License", "mit"),
        ("Expat", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("apache2", "apache-2.0"),
        ("BSD_3_Clause", "bsd-3-clause"),
        ("BSD-2", "bsd-2-clause"),
        ("CC0", "cc0-1.0"),
        ("The Unlicense", "unlicense"),
        ("unlicense", "unlicense"),
        ("AGPL-3.0-only", "agpl-3.0"),
        ("LGPL-2.1-or-later", "lgpl-2.1"),
        ("LGPL-2.1+", "lgpl-2.1"),
        ("", NONE),
        ("None", NONE),
        ("unknown", NONE),
        ("NOASSERTION", NONE),
        ("UNLICENSED", NONE),
        ("GPL-3.0", "gpl-3.0"),
    ],
)
def test_names_of_one_licence_are_one(given: str, expected: str) -> None:
    assert normalised(given) == expected


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_listed_name_stays_itself(name: str) -> None:
    assert normalised(name) == name
    assert normalised(name.upper()) == name


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT OR GPL-3.0", True),
        ("(MIT OR GPL-3.0)", True),
        ("GPL-2.0 or GPL-3.0", False),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0", False),
        ("mit,isc", True),
        ("mit, gpl-3.0", False),
        ("(MIT OR GPL-2.0) AND GPL-3.0", False),
        ("MIT AND (ISC OR Apache-2.0)", True),
        ("Apache-2.0 WITH LLVM-exception", False),
    ],
)
def test_expression_is_allowed_where_a_permissive_choice_is_left(
    licence: str, allowed: bool
) -> None:
    assert allows(PERMISSIVE, licence) is allowed


@pytest.mark.parametrize("licence", ["none", "", "unknown"])
def test_missing_licence_is_allowed_only_by_a_list_that_names_it(licence: str) -> None:
    row = commit(license=licence)
    assert licence_rule(PUBLISHED).apply(row) is None
    assert licence_rule(PUBLISHED | {NONE}).apply(row) is row


def test_list_may_use_any_spelling() -> None:
    row = commit(license="apache-2.0")
    assert licence_rule(["Apache License 2.0"]).apply(row) is row


def test_empty_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="no commit would be kept"):
        licence_rule([])
