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
from astraios.records import Execution, Program
from astraios.sandbox import Job, Limits, Sandbox

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
        return sandbox.run(_jobs(programs, limits, control))

    def version(self) -> str:
        return f"unittests {__version__}"


def _jobs(
    programs: Iterable[Program], limits: Limits | None, control: bool
) -> Iterator[tuple[int, Job, str]]:
    known: dict[str, Language] = {}
    last: Job | None = None
    for position, program in enumerate(programs):
        if program.language not in known:
            known[program.language] = registry.load(languages, "language", program.language)
        language = known[program.language]
        preload = language.preload(f"{program.code}\n{program.tests}")
        job = Job(program.tests, limits or language.limits, preload, control)
        last = last if job == last else job  # one object a batch: comparing costs nothing then
        yield position, last or job, program.code


checker = UnitTests()
