"""What a model is asked and how its answers are decided.

One file a task; a module exports `NAMES`, the full task names it serves (each begins with the
module's name), and `task(name) -> Task`. Tasks know nothing of models or engines and work without
torch.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from astraios import registry
from astraios.errors import UnknownNameError
from astraios.records import Execution, Findings, Program, Prompt, Sampling, Score, Verdict

__all__ = ["Problem", "Task", "names", "task"]


@dataclass(frozen=True)
class Problem:
    """One problem; tasks add their columns in a subclass."""

    id: str
    group: str
    """Shared by problems that are variants of each other; else the id."""


P = TypeVar("P", bound=Problem)


class Task(ABC, Generic[P]):
    """Six pure functions from problems to scores.

    `turns` is the tuple of completions so far: empty for the first question. A one-shot task
    answers None to a non-empty `turns`.
    """

    name: str
    title: str
    version: str
    """Rises with anything that can move a score."""
    languages: tuple[str, ...]
    """Toolchains that judging needs."""
    checker: str | None
    """Name of the checker that makes the evidence; None when the verdict reads the text."""
    sampling: Sampling
    """The protocol's way of drawing completions."""
    template: str
    """The template prompts are made with unless another is asked for."""

    @abstractmethod
    def problems(self, data_dir: Path | None) -> Sequence[P]:
        """All problems, in order.

        Raises:
            MissingDataError: where the data was looked for and how to get it.
            DataError: a row that lacks a column.
        """

    @abstractmethod
    def prompt(self, problem: P, turns: tuple[str, ...], template: str) -> Prompt | None:
        """The next question, or None when no more is to be asked."""

    @abstractmethod
    def program(self, problem: P, turns: tuple[str, ...]) -> Program | None:
        """What to run, made from raw completions; None when the verdict reads the text."""

    @abstractmethod
    def verdict(
        self, problem: P, index: int, turns: tuple[str, ...], evidence: Execution | Findings | None
    ) -> Verdict:
        """Decide one sample."""

    @abstractmethod
    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        """Numbers of the whole task."""

    def references(self, problem: P) -> tuple[Program, Program] | None:
        """A program that must pass and one that must not, to check the machine before grading."""
        return None


def names() -> tuple[str, ...]:
    """Full names of all tasks, in the order their files list them."""
    package = sys.modules[__name__]
    found: list[str] = []
    for part in registry.names(package):
        found += registry.load(package, "NAMES", part)
    return tuple(found)


def task(name: str) -> Task:  # type: ignore[type-arg]
    """The task called `name`, such as `humanevalsynthesize-python`.

    Raises:
        UnknownNameError: if there is none; names the nearest one.
    """
    package = sys.modules[__name__]
    for part in registry.names(package):
        if name.startswith(part) and name in registry.load(package, "NAMES", part):
            made: Task = registry.load(package, "task", part)(name)  # type: ignore[type-arg]
            return made
    raise UnknownNameError("task", name, names())
