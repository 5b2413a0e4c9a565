"""HumanEvalSynthesize: write the function that an instruction describes.

OctoPack (arXiv:2308.07124), section 3; HumanEval (arXiv:2107.03374) asked through instructions.
"""

from __future__ import annotations

from typing import final

from astraios.records import Prompt
from astraios.tasks._humanevalpack import PackProblem, PackTask, names
from astraios.templates import template as template_named

NAMES = names("humanevalsynthesize")


@final
class HumanEvalSynthesize(PackTask):
    """The answer continues the declaration with its documentation."""

    def head(self, problem: PackProblem) -> str:
        return problem.prompt

    def prompt(self, problem: PackProblem, turns: tuple[str, ...], template: str) -> Prompt | None:
        if turns:
            return None
        instruction = problem.instruction.strip()
        text = template_named(template).prompt(instruction, problem.prompt)
        return self.question(problem, text)


def task(name: str) -> HumanEvalSynthesize:
    """The task called `name`, one of `NAMES`."""
    return HumanEvalSynthesize(name, "HumanEvalSynthesize")
