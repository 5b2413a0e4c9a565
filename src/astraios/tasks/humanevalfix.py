"""HumanEvalFix: mend a function that has a bug. OctoPack (arXiv:2308.07124), section 3.

    humanevalfixtests-*   the model sees the wrong function and the tests it fails
    humanevalfixdocs-*    the model sees the wrong function with its documentation

The paper reports the first.
"""

from __future__ import annotations

from typing import final

from astraios.records import Prompt
from astraios.tasks._humanevalpack import PackProblem, PackTask, names

TESTS, DOCS = "humanevalfixtests", "humanevalfixdocs"
NAMES = names(TESTS, DOCS)


@final
class HumanEvalFix(PackTask):
    """The answer writes the whole body again, behind the declaration."""

    def __init__(self, name: str, title: str, *, documented: bool) -> None:
        super().__init__(name, title)
        self.documented = documented

    def head(self, problem: PackProblem) -> str:
        return problem.prompt if self.documented else self.bare(problem)

    def slice(self, problem: PackProblem) -> str:
        return problem.bug_type

    def prompt(self, problem: PackProblem, turns: tuple[str, ...], template: str) -> Prompt | None:
        if turns:
            return None
        head = self.head(problem)
        context = head + problem.buggy_solution
        if not self.documented:
            context += "\n" + problem.test
        instruction = f"Fix bugs in {problem.entry_point}."
        text = self.ask(template, instruction, context, head)
        return self.question(problem, text, template)


def task(name: str) -> HumanEvalFix:
    """The task called `name`, one of `NAMES`."""
    documented = name.startswith(DOCS)
    kind = "documentation" if documented else "tests"
    return HumanEvalFix(name, f"HumanEvalFix from {kind}", documented=documented)
