"""HumanEvalExplain: describe a function, then write it from one's own description alone.

OctoPack (arXiv:2308.07124), section 3. Two turns: the first asks for a description no longer than
the function's documentation, the second for the function from that description. The description is
cleaned of the solution's own lines, so code cannot be handed through. Only the second turn is
scored, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from astraios.records import Prompt
from astraios.tasks._humanevalpack import END_OF_TEXT, PackProblem, PackTask, names
from astraios.templates import template as template_named

NAMES = names("humanevalexplainsynthesize")

SHORTEST_CODE = 21
"""Characters from which a line of the solution is deleted from a description."""


@final
class HumanEvalExplain(PackTask):
    """The harness puts the documentation back in front of the answer, though no model saw it."""

    one_text_a_list = True

    def head(self, problem: PackProblem) -> str:
        return problem.prompt

    def prompt(self, problem: PackProblem, turns: tuple[str, ...], template: str) -> Prompt | None:
        if len(turns) > 1:
            return None
        if turns:
            description = self.description(problem, turns[0])
            instruction = (
                f"Write functional code in {self.language.title} according to the description."
            )
            text = self.ask(template, instruction, description, self.bare(problem))
            return self.question(problem, text, template, turn=1)
        instruction = (
            "Provide a concise natural language description of the code using at most "
            f"{len(problem.docstring)} characters."
        )
        shown = self.bare(problem) + problem.canonical_solution
        text = self.ask(template, instruction, shown, "")
        kind = template_named(template).kind
        return Prompt(problem_id=problem.id, text=text, stops=(END_OF_TEXT,), kind=kind)

    def finished(self, turn: int) -> Callable[[str], bool] | None:
        return self.language.finished if turn else None

    def description(self, problem: PackProblem, completion: str) -> str:
        """What the second question shows of the first answer."""
        text = completion.strip()[: len(problem.docstring)]
        for stop in dict.fromkeys((*self.language.stops, END_OF_TEXT)):
            text = text.partition(stop)[0]
        text = text.rstrip()
        for line in problem.canonical_solution.split("\n"):
            code = line.strip()
            if len(code) >= SHORTEST_CODE:
                text = text.replace(code, "")
        return text


def task(name: str) -> HumanEvalExplain:
    """The task called `name`, one of `NAMES`."""
    return HumanEvalExplain(name, "HumanEvalExplain")
