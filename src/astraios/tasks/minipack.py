"""minipack: programs of two or three steps that a tiny model can learn to write.

    minipack-synthesize   write the function that the instruction describes
    minipack-fix          mend the function that the question shows
    minipack-robust       minipack-synthesize under one perturbation of each family
    minipack-validation   other compositions, for choosing learning rates; never reported

Greedy, one completion a problem. A pass is a run of the problem's own tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from astraios.languages.python import language as python
from astraios.metrics import bootstrap_mean
from astraios.minipack.documents import fix_instruction
from astraios.minipack.problems import VERSION, MiniProblem, Part, benchmark
from astraios.perturbations import Told, transformation
from astraios.records import (
    Execution,
    Findings,
    Outcome,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Score,
    Verdict,
)
from astraios.tasks import Problem, Task
from astraios.tasks._perturbed import PerturbedTask, perturbed
from astraios.templates import template as template_named

NAMES = ("minipack-synthesize", "minipack-fix", "minipack-robust", "minipack-validation")

TITLES = {
    "minipack-synthesize": "minipack: write a function",
    "minipack-fix": "minipack: mend a function",
    "minipack-robust": "minipack: write a function, prompt perturbed",
    "minipack-validation": "minipack: write a function (validation part)",
}

ROBUST = ("new_lines", "FuncRenameButterFinger", "DeadCodeInserter", "ButterFingersPerturbation")
"""One perturbation of each family. All are made of prompts with half of the body given, so that one
run of unperturbed prompts serves all, and a problem's worst case is over comparable variants."""
N_ROBUST = 192
"""Problems that are perturbed: with their unperturbed prompts 960 questions."""


@dataclass(frozen=True)
class MiniTaskProblem(Problem):
    """A problem and the slice of the scores that it counts in."""

    slice: str
    """Number of steps: `2` or `3`."""
    instruction: str
    source: MiniProblem


@final
class MinipackTask(Task[MiniTaskProblem]):
    """One of the four tasks; see the module."""

    version = VERSION
    languages = ("python",)
    checker = "unittests"
    sampling = Sampling(n_samples=1, temperature=0.0, max_new_tokens=96)
    template = "octocoder"

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = TITLES[name]

    def problems(self, data_dir: Path | None) -> Sequence[MiniTaskProblem]:
        part = Part.VALIDATION if self.name == "minipack-validation" else Part.TEST
        found = []
        fix = self.name == "minipack-fix"
        for problem in benchmark(part):
            asked = fix_instruction(problem) if fix else problem.instruction
            steps = str(len(problem.chain))
            found.append(MiniTaskProblem(problem.task_id, problem.task_id, steps, asked, problem))
        return found

    def prompt(
        self, problem: MiniTaskProblem, turns: tuple[str, ...], template: str
    ) -> Prompt | None:
        if turns:
            return None
        made = template_named(template)
        text = made.prompt(problem.instruction, problem.source.declaration)
        return Prompt(problem_id=problem.id, text=text, stops=python.stops, kind=made.kind)

    def finished(self, turn: int) -> Callable[[str], bool]:
        return python.finished

    def program(self, problem: MiniTaskProblem, turns: tuple[str, ...]) -> Program:
        return self.final_program(problem, self.final_text(problem, turns))

    def head(self, problem: MiniTaskProblem) -> str:
        return problem.source.declaration

    def final_text(self, problem: MiniTaskProblem, turns: tuple[str, ...]) -> str:
        return (self.head(problem).rstrip() + python.truncate(turns[0])).rstrip()

    def final_program(self, problem: MiniTaskProblem, text: str) -> Program:
        return Program(language="python", code=text, tests=problem.source.test)

    def verdict(
        self,
        problem: MiniTaskProblem,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        assert isinstance(evidence, Execution)
        return Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            slice=problem.slice,
            outcome=evidence.outcome,
            detail=evidence.message,
            cpu_s=evidence.cpu_s,
            wall_s=evidence.wall_s,
            peak_mib=evidence.peak_mib,
        )

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        slices: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            slices["all"].append(verdict)
            slices[verdict.slice].append(verdict)
        return [self._score(name, slices[name]) for name in sorted(slices)]

    def _score(self, name: str, verdicts: Sequence[Verdict]) -> Score:
        counted: dict[str, list[bool]] = defaultdict(list)
        for verdict in verdicts:
            if verdict.outcome is not Outcome.FAULT:
                counted[verdict.problem_id].append(verdict.outcome is Outcome.PASSED)
        rates = [sum(passed) / len(passed) for passed in counted.values()]
        interval = bootstrap_mean(rates) if rates else None
        n_samples = sum(map(len, counted.values()))
        return Score(
            task=self.name,
            metric="pass@1",
            slice=name,
            value=interval.value if interval else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            n_problems=len(counted),
            n_samples=n_samples,
            n_faults=len(verdicts) - n_samples,
        )

    def perturbed(self, family: str) -> PerturbedTask:
        if self.name != "minipack-synthesize":
            return super().perturbed(family)  # type: ignore[return-value]
        return perturbed(self, family)

    def told(self, problem: MiniTaskProblem) -> Told:
        """The instruction and the declaration: minipack's questions show no documentation."""
        source = problem.source
        return Told(
            id=problem.id,
            entry_point=source.entry_point,
            prompt=source.declaration,
            rest=source.canonical_solution,
            test=source.test,
            text=problem.instruction,
        )

    def retold(self, problem: MiniTaskProblem, told: Told) -> MiniTaskProblem:
        """`problem` with what perturbations change."""
        source = replace(
            problem.source,
            entry_point=told.entry_point,
            declaration=told.shown,
            canonical_solution=told.rest,
            test=told.test,
        )
        return replace(problem, id=told.id, instruction=told.text, source=source)

    def references(self, problem: MiniTaskProblem) -> tuple[Program, Program]:
        source = problem.source
        start = source.declaration
        right = Program(
            language="python", code=start + source.canonical_solution, tests=source.test
        )
        wrong = Program(language="python", code=start + source.buggy_solution, tests=source.test)
        return right, wrong

    def card(self, problem: MiniTaskProblem) -> ProblemCard:
        source = problem.source
        return ProblemCard(
            id=problem.id,
            group=problem.group,
            slice=problem.slice,
            title=problem.instruction.splitlines()[0],
            reference=source.declaration + source.canonical_solution,
            tests=source.test,
        )


def task(name: str) -> Task[Any]:
    """The task called `name`, one of `NAMES`."""
    if name != "minipack-robust":
        return MinipackTask(name)
    return PerturbedTask(
        MinipackTask("minipack-synthesize"),
        [transformation(one) for one in ROBUST],
        name=name,
        title=TITLES[name],
        begun=True,
        seeds=1,
        n_problems=N_ROBUST,
    )
