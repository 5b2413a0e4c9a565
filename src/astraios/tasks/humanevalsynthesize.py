"""HumanEvalSynthesize: write the function that an instruction describes.

OctoPack (arXiv:2308.07124), section 3; HumanEval (arXiv:2107.03374) asked through instructions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

from astraios.perturbations import Told
from astraios.records import Prompt
from astraios.tasks._humanevalpack import PackProblem, PackTask, names
from astraios.tasks._perturbed import PerturbedTask, perturbed
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
        return self.question(problem, text, template)

    def perturbed(self, family: str) -> PerturbedTask:
        return perturbed(self, family)

    def told(self, problem: PackProblem) -> Told:
        """The instruction, the declaration with its documentation, and the benchmark's tests."""
        return Told(
            id=problem.id,
            entry_point=problem.entry_point,
            prompt=problem.prompt,
            rest=problem.canonical_solution,
            test="\n".join(filter(None, (problem.test, problem.extra_tests))),
            text=problem.instruction,
        )

    def retold(self, problem: PackProblem, told: Told) -> PackProblem:
        """`problem` with what perturbations change; nothing else is asked or run."""
        return replace(
            problem,
            id=told.id,
            entry_point=told.entry_point,
            prompt=told.shown,
            canonical_solution=told.rest,
            test=told.test,
            extra_tests="",
            instruction=told.text,
        )


def task(name: str) -> HumanEvalSynthesize:
    """The task called `name`, one of `NAMES`."""
    return HumanEvalSynthesize(name, "HumanEvalSynthesize")
