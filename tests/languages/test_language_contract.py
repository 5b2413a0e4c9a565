"""What every language owes: right programs pass, wrong ones fail, endless ones are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.languages import Language
from astraios.records import Outcome, Program
from astraios.sandbox import Limits, Sandbox, open_sandbox

LIMITS = Limits(cpu_s=0.5, wall_s=10.0, memory_mib=1024)

# name -> (right, wrong, endless, does not compile, tests)
PROGRAMS = {
    "python": (
        "def double(n):\n    return 2 * n",
        "def double(n):\n    return n",
        "def double(n):\n    while True:\n        pass",
        "def double(n:",
        "assert double(21) == 42\n",
    )
}


@pytest.fixture(params=registry.names(languages))
def language(request: pytest.FixtureRequest) -> Language:
    made: Language = registry.load(languages, "language", request.param)
    return made


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox(jobs=1) as opened:
        yield opened


def outcome(language: Language, sandbox: Sandbox, which: int) -> Outcome:
    parts = PROGRAMS[language.name]
    program = Program(
        language=language.name, code=language.candidate(parts[which]), tests=parts[-1]
    )
    ((_, execution),) = checker.check([program], sandbox, limits=LIMITS)
    return execution.outcome


def test_right_program_passes(language: Language, sandbox: Sandbox) -> None:
    assert outcome(language, sandbox, 0) is Outcome.PASSED


def test_wrong_program_fails(language: Language, sandbox: Sandbox) -> None:
    assert outcome(language, sandbox, 1) is Outcome.FAILED


def test_endless_program_is_cut(language: Language, sandbox: Sandbox) -> None:
    assert outcome(language, sandbox, 2) is Outcome.TIMED_OUT


def test_broken_program_does_not_compile(language: Language, sandbox: Sandbox) -> None:
    assert outcome(language, sandbox, 3) is Outcome.COMPILE_ERROR


def test_name_is_the_file_name(language: Language) -> None:
    assert language.name in registry.names(languages)
    assert language.title


def test_every_stop_word_ends_a_completion(language: Language) -> None:
    for stop in language.stops:
        assert language.truncate(f"    x{stop} y") == "    x" or stop not in language.truncate(
            f"    x{stop} y"
        )
        assert language.finished(f"    x{stop} y")


def test_toolchain_names_versions(language: Language) -> None:
    assert all(language.toolchain().values())
