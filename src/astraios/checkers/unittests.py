"""Run programs against their tests: the pass or fail behind every pass@k.

A pass needs a token that only the driver behind the last statement of the tests knows; and then
the program must fail tests that nothing honest can pass (`sandbox/inside/control.py`), else it is
`forged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from astraios import __version__, languages, registry
from astraios.checkers import Checker
from astraios.languages import Language
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Job, Limits, Recipe, Sandbox

__all__ = ["UnitTests", "checker"]


class UnitTests(Checker):
    """Evidence is what became of candidate and tests, executed as one program."""

    def check(
        self,
        programs: Iterable[Program],
        sandbox: Sandbox,
        *,
        limits: Limits | None = None,
        control: bool = True,
    ) -> Iterator[tuple[int, Execution]]:
        """Yield (position, execution) as programs end, in any order.

        Args:
            programs: consumed lazily; those with equal `tests` that follow each other are one
                batch, whose tests are compiled once.
            sandbox: where they run, `sandbox.jobs` at a time.
            limits: in place of each language's own.
            control: whether a pass must also fail impossible tests.

        Raises:
            UnknownNameError: for a language that has no file.
            SandboxError: if servers cannot be started any more.
        """
        explained: dict[int, Language] = {}
        for position, execution in sandbox.run(_jobs(programs, limits, control, explained)):
            language = explained.pop(position, None)
            if language is not None and execution.outcome in _UNEXPLAINED:
                execution = language.explain(execution)
            yield position, execution

    def version(self) -> str:
        return f"unittests {__version__}"


_UNEXPLAINED = (Outcome.CRASHED, Outcome.FAILED, Outcome.COMPILE_ERROR)
"""What a runtime's messages and exit status may say more about."""


def _jobs(
    programs: Iterable[Program],
    limits: Limits | None,
    control: bool,
    explained: dict[int, Language],
) -> Iterator[tuple[int, Job, str]]:
    known: dict[str, tuple[Language, Recipe | None]] = {}
    last: Job | None = None
    for position, program in enumerate(programs):
        if program.language not in known:
            found: Language = registry.load(languages, "language", program.language, Language)
            known[program.language] = (found, found.recipe())
        language, recipe = known[program.language]
        if last is None or recipe is not last.recipe or program.tests != last.tests or not recipe:
            job = _job(program, language, recipe, limits or language.limits, control)
            last = last if job == last else job  # one object a batch: comparing costs nothing then
        if recipe is not None:
            explained[position] = language
        yield position, last or job, program.code


def _job(
    program: Program, language: Language, recipe: Recipe | None, limits: Limits, control: bool
) -> Job:
    if recipe is not None:
        harness = language.harness(program.tests)
        return Job(program.tests, limits, control=control, recipe=recipe, harness=harness)
    text = f"{program.code}\n{program.tests}"
    preamble = (language.preamble, language.needed(text))
    return Job(program.tests, limits, language.preload(text), control, preamble)


checker = UnitTests()
