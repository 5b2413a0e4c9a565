"""minipack: programs of two or three steps that a tiny model can learn to write.

    minipack-synthesize   write the function that the instruction describes
    minipack-fix          mend the function that the question shows
    minipack-robust       minipack-synthesize under four perturbations of the prompt
    minipack-validation   other compositions, for choosing learning rates; never reported

Greedy, one completion a problem. A pass is a run of the problem's own tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from astraios.languages.python import language as python
from astraios.metrics import bootstrap_mean
from astraios.minipack.documents import fix_instruction
from astraios.minipack.perturb import PERTURBATIONS, perturb
from astraios.minipack.problems import VERSION, MiniProblem, Part, benchmark
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
from astraios.templates import template as template_named

NAMES = ("minipack-synthesize", "minipack-fix", "minipack-robust", "minipack-validation")

TITLES = {
    "minipack-synthesize": "minipack: write a function",
    "minipack-fix": "minipack: mend a function",
    "minipack-robust": "minipack: write a function, prompt perturbed",
    "minipack-validation": "minipack: write a function (validation part)",
}


@dataclass(frozen=True)
class MiniTaskProblem(Problem):
    """A problem and the slice of the scores that it counts in."""

    slice: str
    """Number of steps (`2`, `3`), or the perturbation."""
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
        for problem in benchmark(part):
            if self.name == "minipack-robust":
                for kind in PERTURBATIONS:
                    told = perturb(problem, kind)
                    found.append(
                        MiniTaskProblem(told.task_id, problem.task_id, kind, told.instruction, told)
                    )
            else:
                fix = self.name == "minipack-fix"
                asked = fix_instruction(problem) if fix else problem.instruction
                steps = str(len(problem.chain))
                found.append(
                    MiniTaskProblem(problem.task_id, problem.task_id, steps, asked, problem)
                )
        return found

    def prompt(
        self, problem: MiniTaskProblem, turns: tuple[str, ...], template: str
    ) -> Prompt | None:
        if turns:
            return None
        text = template_named(template).prompt(problem.instruction, problem.source.declaration)
        return Prompt(problem_id=problem.id, text=text, stops=python.stops)

    def finished(self, turn: int) -> Callable[[str], bool]:
        return python.finished

    def program(self, problem: MiniTaskProblem, turns: tuple[str, ...]) -> Program:
        code = problem.source.declaration.rstrip() + python.truncate(turns[0])
        return Program(language="python", code=code.rstrip(), tests=problem.source.test)

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
        robust = self.name == "minipack-robust"
        scores = [
            self._score("pass@1", name, slices[name], by="problem_id")
            for name in sorted(slices)
            if not (robust and name == "all")
        ]
        if robust:
            scores.append(self._worst_case(slices["all"]))
        return scores

    def _worst_case(self, verdicts: Sequence[Verdict]) -> Score:
        """A problem counts only if it passes under every perturbation (ReCode, robust pass)."""
        return self._score("robust-pass@1", "worst-case", verdicts, by="group")

    def _score(self, metric: str, name: str, verdicts: Sequence[Verdict], by: str) -> Score:
        units: dict[str, list[bool]] = defaultdict(list)
        n_faults = 0
        for verdict in verdicts:
            if verdict.outcome is Outcome.FAULT:
                n_faults += 1
            else:
                units[getattr(verdict, by)].append(verdict.outcome is Outcome.PASSED)
        passed = [float(all(unit)) for unit in units.values()]
        interval = bootstrap_mean(passed) if passed else None
        return Score(
            task=self.name,
            metric=metric,
            slice=name,
            value=interval.value if interval else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            n_problems=len(units),
            n_samples=len(verdicts) - n_faults,
            n_faults=n_faults,
        )

    def references(self, problem: MiniTaskProblem) -> tuple[Program, Program]:
        source = problem.source
        start = source.declaration
        right = Program(
            language="python", code=start + source.canonical_solution, tests=source.test
        )
        given = problem.slice == "first-line"  # its first line is right, so the mutant is whole
        name = source.entry_point
        wrong_start = f"def {name}(v):\n" if given else start
        wrong = Program(
            language="python", code=wrong_start + source.buggy_solution, tests=source.test
        )
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


def task(name: str) -> MinipackTask:
    """The task called `name`, one of `NAMES`."""
    return MinipackTask(name)
