"""Reference solutions of HumanEvalPack as programs, for the tests of languages with compilers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from astraios import languages, registry, tasks
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages import Language, Surroundings
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox

EVERY = 16
"""One problem in so many is run by every test run, the others by slow ones."""
N_PROBLEMS, BATCH = 164, 8
_ABSOLUTE = re.compile(r"(?<![\w.*/<])/\w")


def language_named(name: str) -> Language:
    """The language; skips where its toolchain is missing."""
    language: Language = registry.load(languages, "language", name)
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    return language


def batches() -> list[object]:
    """Places of problems: the ones for every run, then all others, slow."""
    often = range(0, N_PROBLEMS, EVERY)
    rest = [place for place in range(N_PROBLEMS) if place % EVERY]
    slow = [rest[start : start + BATCH] for start in range(0, len(rest), BATCH)]
    return [
        pytest.param(list(often), id="every-16th"),
        *(pytest.param(part, id=f"from-{part[0]}", marks=pytest.mark.slow) for part in slow),
    ]


def run(sandbox: Sandbox, language: Language, tests: str, *codes: str) -> list[Execution]:
    """What becomes of candidates."""
    around = Surroundings(tests=tests)
    programs = [
        Program(language=language.name, code=language.candidate(code, around), tests=tests)
        for code in codes
    ]
    return run_programs(sandbox, language, programs)


def run_programs(
    sandbox: Sandbox, language: Language, programs: Iterable[Program]
) -> list[Execution]:
    limits = replace(language.limits, cpu_s=2.0)
    return [found for _, found in sorted(checker.check(programs, sandbox, limits=limits))]


def check_references(sandbox: Sandbox, language: Language, places: list[int], shared: Path) -> None:
    """Right references pass, and fail impossible tests; wrong ones do not pass, but for known ones.

    A pass is only a pass if the tests with other expectations were compiled and failed, so this is
    a test of those too.
    """
    task = tasks.task(f"humanevalsynthesize-{language.name}")
    all_problems = task.problems(shared / "data")
    problems = [all_problems[place] for place in places]
    pairs = [task.references(problem) for problem in problems]
    found = run_programs(sandbox, language, [program for pair in pairs for program in pair or ()])
    passed = [execution.outcome is Outcome.PASSED for execution in found]
    known = task.known_wrong_passes()
    names = [problem.id for problem in problems]
    assert dict(zip(names, passed[::2], strict=True)) == dict.fromkeys(names, True), found[::2]
    assert dict(zip(names, passed[1::2], strict=True)) == {name: name in known for name in names}
    for program, _ in filter(None, pairs):
        harness = language.harness(program.tests)
        assert harness.impossible != harness.after


def names_no_place(message: str) -> bool:
    """Whether a message holds no path of the machine."""
    return not _ABSOLUTE.search(message)
