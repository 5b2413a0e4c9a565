"""Every registered language keeps the contract of `astraios.testing`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from astraios import languages, registry
from astraios.errors import ConfigError, ContractError
from astraios.records import Outcome
from astraios.testing import NotApplicable, Property, check_language
from astraios.testing.languages import CONTRACT, PROGRAMS, LanguageSubject, read_examples, subject


@pytest.fixture(params=registry.names(languages), scope="module")
def language(request: pytest.FixtureRequest) -> Iterator[LanguageSubject]:
    with subject(request.param) as made:
        yield made


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda one: one.name.replace(" ", "-"))
def test_language_keeps(promise: Property[LanguageSubject], language: LanguageSubject) -> None:
    try:
        promise.check(language)
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_every_language_has_its_five_programs() -> None:
    assert {path.stem for path in PROGRAMS.iterdir()} == set(registry.names(languages))


# --- the contract itself ----------------------------------------------------------------------


def test_programs_that_fare_otherwise_are_told_with_what_became_of_them() -> None:
    examples = read_examples(PROGRAMS / "python.yaml")
    swapped = examples.model_copy(update={"right": examples.wrong, "broken": examples.right})
    with pytest.raises(ContractError) as told:
        check_language("python", swapped)
    text = str(told.value)
    assert text.startswith("language 'python' keeps 6 of the 8 properties of its kind, and not\n")
    assert f"a right program passes: {Outcome.FAILED}, expected {Outcome.PASSED}" in text
    assert f"{Outcome.PASSED}, expected {Outcome.COMPILE_ERROR}" in text


def test_a_language_without_programs_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda *_: None)
    with pytest.raises(ConfigError, match=r"'perl' needs five programs .*--programs FILE"):
        check_language("perl")
