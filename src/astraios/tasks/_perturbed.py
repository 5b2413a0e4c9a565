"""Any task whose problems can be told differently, asked under perturbations.

    humanevalsynthesize-python+perturb-format
    humanevalsynthesize-python@original+perturb-docstring

A suffix and not an edition: an edition says which data are read, and every edition can be
perturbed. A task takes part by saying how its problem is told (`told`) and what the problem is
when it is told otherwise (`retold`); all else, prompts and programs and verdicts, stays its own.

Every problem is asked once as it is, so that drops can be computed, then under each transformation
of the family, with ReCode's five seeds where chance decides. The prompt as it is has half of the
body where the family is about code. Before samples are judged the reference of every variant runs:
so each transformation's claim is checked on the problems it is used on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, final

from astraios import perturbations
from astraios.errors import ConfigError
from astraios.perturbations import Told, Transformation, begin, perturb
from astraios.records import Execution, Findings, ProblemCard, Program, Prompt, Score, Verdict
from astraios.tasks import Problem, Task
from astraios.tasks._robustness import NOMINAL, robust_scores

SEEDS = 5
"""Draws of a transformation that is left to chance (ReCode, section 4.1)."""

P = TypeVar("P", bound=Problem)


class Tellable(Protocol[P]):
    """What a task says to take part."""

    def told(self, problem: P) -> Told:
        """`problem` as a model is told it."""
        ...

    def retold(self, problem: P, told: Told) -> P:
        """`problem` as it is when it is told as `told`, whose id it takes."""
        ...


@dataclass(frozen=True)
class PerturbedProblem(Problem):
    """A problem of the task, told differently."""

    slice: str
    """The transformation, or `nominal`."""
    told: Any
    """The problem as the task knows it, perturbed."""
    original: Any
    """The same as it is in the data."""


@final
class PerturbedTask(Task[PerturbedProblem]):
    """A task under some transformations; greedy, one completion a prompt, as in the paper."""

    def __init__(
        self,
        base: Any,
        chosen: Sequence[Transformation],
        *,
        name: str,
        title: str,
        begun: bool,
        seeds: int = SEEDS,
        n_problems: int | None = None,
    ) -> None:
        self.base: Any = base
        self.chosen = tuple(chosen)
        self.begun = begun
        self.seeds = seeds
        self.n_problems = n_problems
        self.name = name
        self.title = title
        self.version = f"{base.version}+{perturbations.VERSION}"
        self.languages = base.languages
        self.checker = base.checker
        self.template = base.template
        self.sampling = base.sampling.model_copy(update={"n_samples": 1, "temperature": 0.0})

    def problems(self, data_dir: Path | None) -> Sequence[PerturbedProblem]:
        found: list[PerturbedProblem] = []
        for problem in self._originals(data_dir):
            told = self._told(problem)
            found.append(self._problem(problem, told, problem.id, NOMINAL))
            for one in self.chosen:
                for seed in range(self._n_seeds(one)):
                    made = perturb(told, one.name, seed).told
                    name = f"{problem.id}/{one.name}/{seed}"
                    found.append(self._problem(problem, made, name, one.name))
        return found

    def extent(self, data_dir: Path | None) -> tuple[int, PerturbedProblem]:
        """Without the perturbations, which take seconds to make."""
        found = self._originals(data_dir)
        first = self._problem(found[0], self._told(found[0]), found[0].id, NOMINAL)
        return len(found) * (1 + sum(map(self._n_seeds, self.chosen))), first

    def _originals(self, data_dir: Path | None) -> Sequence[Any]:
        found: Sequence[Any] = self.base.problems(data_dir)[: self.n_problems]
        return found

    def _n_seeds(self, one: Transformation) -> int:
        return self.seeds if one.drawn else 1

    def _told(self, problem: Any) -> Told:
        told: Told = self.base.told(problem)
        return begin(told) if self.begun else told

    def _problem(self, problem: Any, told: Told, name: str, part: str) -> PerturbedProblem:
        return PerturbedProblem(
            id=name,
            group=problem.group,
            slice=part,
            told=self.base.retold(problem, replace(told, id=name)),
            original=problem,
        )

    def prompt(
        self, problem: PerturbedProblem, turns: tuple[str, ...], template: str
    ) -> Prompt | None:
        asked: Prompt | None = self.base.prompt(problem.told, turns, template)
        return asked

    def finished(self, turn: int) -> Callable[[str], bool] | None:
        rule: Callable[[str], bool] | None = self.base.finished(turn)
        return rule

    def program(self, problem: PerturbedProblem, turns: tuple[str, ...]) -> Program | None:
        made: Program | None = self.base.program(problem.told, turns)
        return made

    def final_text(self, problem: PerturbedProblem, turns: tuple[str, ...]) -> str:
        text: str = self.base.final_text(problem.told, turns)
        return text

    def final_program(self, problem: PerturbedProblem, text: str) -> Program | None:
        made: Program | None = self.base.final_program(problem.told, text)
        return made

    def head(self, problem: PerturbedProblem) -> str:
        text: str = self.base.head(problem.told)
        return text

    def verdict(
        self,
        problem: PerturbedProblem,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        found: Verdict = self.base.verdict(problem.told, index, turns, evidence)
        return found.model_copy(update={"slice": problem.slice, "group": problem.group})

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        return robust_scores(self.name, verdicts)

    def tools(self) -> dict[str, str]:
        tools: dict[str, str] = self.base.tools()
        return tools

    def references(self, problem: PerturbedProblem) -> tuple[Program, Program] | None:
        """The reference as it is told, and the wrong program of the data, which must fail still."""
        right, wrong = self.base.references(problem.told), self.base.references(problem.original)
        return (right[0], wrong[1]) if right and wrong else None

    def known_exceptions(self) -> Mapping[str, str]:
        known: Mapping[str, str] = self.base.known_exceptions()
        return known

    def card(self, problem: PerturbedProblem) -> ProblemCard:
        card: ProblemCard = self.base.card(problem.told)
        return card.model_copy(
            update={"id": problem.id, "group": problem.group, "slice": problem.slice}
        )


def perturbed(base: Task[Any], family: str) -> PerturbedTask:
    """`base`, which has to be `Tellable`, under a family of transformations.

    Raises:
        UnknownNameError: if there is no such family.
        ConfigError: if the language is not Python.
    """
    if base.languages != ("python",):
        raise ConfigError(
            f"{base.name} cannot be perturbed: the transformations read Python, and its programs "
            f"are {', '.join(base.languages) or 'none'}"
        )
    chosen = perturbations.family(family)
    return PerturbedTask(
        base,
        chosen,
        name=f"{base.name}+perturb-{family}",
        title=f"{base.title}, {family} perturbed",
        begun=any(one.partial for one in chosen),
    )
