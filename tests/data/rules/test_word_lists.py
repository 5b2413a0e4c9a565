"""The word lists are what the rules take them for."""

from __future__ import annotations

from importlib.resources import files

import pytest

from astraios.data.rules._words import words

LISTS = (
    "verbs",
    "noise_messages",
    "noise_subjects",
    "noise_parts",
    "bad_lines",
    "refusals",
    "blunt",
)


def test_no_list_is_left_over() -> None:
    folder = files("astraios.data.rules") / "words"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{x}.txt" for x in LISTS)


@pytest.mark.parametrize("name", LISTS)
def test_entries_are_lower_case_and_listed_once(name: str) -> None:
    entries = words(name)
    assert entries
    assert len(set(entries)) == len(entries)
    assert [entry for entry in entries if entry != entry.lower()] == []


@pytest.mark.parametrize("name", LISTS)
def test_list_says_what_it_is(name: str) -> None:
    text = (files("astraios.data.rules") / "words" / f"{name}.txt").read_text(encoding="utf-8")
    assert text.startswith("# ")


def test_common_verbs_of_the_original_are_listed() -> None:
    common = """
        add allow apply build bump change check clean configure convert correct create define
        delete disable document drop enable extend fix format handle implement improve include
        increase initialize introduce load make merge migrate modify move optimize print raise
        reduce refactor remove rename reorder replace reset resolve return revert rewrite save set
        simplify sort split stop store support switch test throw tidy tweak update upgrade use
        validate verify work write
    """
    assert set(common.split()) <= set(words("verbs"))
