"""What ReCode's tasks and HumanEval in the same style share: the question, the cut, the program.

A model is asked to go on with a prompt; what it writes is cut at the first stop word. The final
text, stripped prompt and completion, is the program: no imports are put in front of it.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from astraios.errors import DataError, UnknownNameError
from astraios.records import (
    Execution,
    Findings,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Verdict,
)
from astraios.tasks import Problem, Task
from astraios.tasks._recode_data import Nominal
from astraios.templates import template as template_named

INSTRUCTION = "Create a Python script for this problem."
STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")
END_OF_TEXT = "<|endoftext|>"
MAX_LENGTH = 1024
"""Tokens of prompt and completion together, as in the runs of the paper."""
REVISION = "1"
"""Rises with anything that can move a score."""
WRONG = "    return None\n"
"""A body that no problem's tests take."""


@dataclass(frozen=True)
class RecodeProblem(Problem):
    """A prompt of HumanEval, as it is or perturbed."""

    slice: str
    """The transformation, `nominal`, or nothing where there are no transformations."""
    prompt: str
    entry_point: str
    test: str
    nominal: Nominal | None = None
    """The problem as it is, at the first of its variants: its solution shows that tests run."""


class RecodeTask(Task[RecodeProblem]):
    """Greedy, one completion a prompt, as in the paper."""

    languages = ("python",)
    checker = "unittests"
    data_name = "recode"
    sampling = Sampling(n_samples=1, temperature=0.0, max_new_tokens=MAX_LENGTH)
    template = "question_answer"

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self._use(self.editions[0])

    @abstractmethod
    def _use(self, edition: str) -> None:
        """Take `edition`, one of the task's own."""

    def edition(self, name: str) -> Self:
        if name not in self.editions:
            raise UnknownNameError(f"edition of {self.name}", name, self.editions)
        twin = copy.copy(self)
        twin._use(name)
        twin.version = f"{name}-{REVISION}"
        return twin

    def prompt(
        self, problem: RecodeProblem, turns: tuple[str, ...], template: str
    ) -> Prompt | None:
        if turns:
            return None
        made = template_named(template)
        return Prompt(
            problem_id=problem.id,
            text=made.prompt(INSTRUCTION, self.head(problem)),
            stops=(*STOPS, END_OF_TEXT),
            kind=made.kind,
            max_length=MAX_LENGTH,
        )

    def finished(self, turn: int) -> Callable[[str], bool]:
        return _says_stop

    def head(self, problem: RecodeProblem) -> str:
        return problem.prompt.strip()

    def program(self, problem: RecodeProblem, turns: tuple[str, ...]) -> Program:
        return self.final_program(problem, self.final_text(problem, turns))

    def final_text(self, problem: RecodeProblem, turns: tuple[str, ...]) -> str:
        return self.head(problem) + cut(turns[-1])

    def final_program(self, problem: RecodeProblem, text: str) -> Program:
        return Program(
            language="python", code=text, tests=_tests(problem.test, problem.entry_point)
        )

    def references(self, problem: RecodeProblem) -> tuple[Program, Program] | None:
        nominal = problem.nominal
        if nominal is None:
            return None
        tests = _tests(nominal.test, nominal.entry_point)
        right = Program(language="python", code=nominal.solution, tests=tests)
        return right, right.model_copy(update={"code": nominal.prompt + WRONG})

    def verdict(
        self,
        problem: RecodeProblem,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        if not isinstance(evidence, Execution):
            raise TypeError(f"{self.name} is decided by running programs, got {evidence!r}")
        lines = evidence.stderr.strip().splitlines()
        return Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            slice=problem.slice,
            outcome=evidence.outcome,
            detail=lines[0] if lines else evidence.message,
            cpu_s=evidence.cpu_s,
            wall_s=evidence.wall_s,
            peak_mib=evidence.peak_mib,
        )

    def card(self, problem: RecodeProblem) -> ProblemCard:
        return ProblemCard(
            id=problem.id,
            group=problem.group,
            slice=problem.slice,
            title=problem.entry_point,
            reference=problem.nominal.solution if problem.nominal else "",
            tests=problem.test,
        )


def cut(completion: str) -> str:
    """`completion` up to the first stop word, or the end of the text that the model set."""
    return completion[: min(_places(completion), default=len(completion))]


def _places(completion: str) -> Sequence[int]:
    found = (completion.find(stop) for stop in (*STOPS, END_OF_TEXT))
    return [place for place in found if place >= 0]


def _tests(test: str, entry_point: str) -> str:
    return f"\n\n{test}\ncheck({entry_point})"


def nominal_problems(
    nominal: Mapping[str, Nominal], prompts: Mapping[str, str], part: str
) -> list[RecodeProblem]:
    """The problems as they are, asked with `prompts`, by task id."""
    return [
        RecodeProblem(
            id=name,
            group=name,
            slice=part,
            prompt=prompts[name],
            entry_point=problem.entry_point,
            test=problem.test,
            nominal=problem,
        )
        for name, problem in nominal.items()
    ]


def partial_prompts(nominal: Mapping[str, Nominal]) -> dict[str, str]:
    """The partial prompts, which only ReCode's own data have.

    Raises:
        DataError: if a problem has none.
    """
    for name, problem in nominal.items():
        if not problem.partial_prompt:
            raise DataError(
                f"HumanEval as it is: {name} has no 'partial_prompt', which the prompts of formats "
                "and syntax were made from; take ReCode's own nominal data"
            )
    return {name: problem.partial_prompt for name, problem in nominal.items()}


def _says_stop(completion: str) -> bool:
    """Whether a stop word has been written; a function of the module, as workers pickle it."""
    return any(stop in completion for stop in (*STOPS, END_OF_TEXT))
