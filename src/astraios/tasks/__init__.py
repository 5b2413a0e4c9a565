"""What a model is asked and how its answers are decided.

One file a task; a module exports `NAMES`, the full task names it serves (each begins with the
module's name), and `task(name) -> Task`. Tasks know nothing of models or engines and work without
torch.

A task may have several *editions*, readings of its data that are told apart by name:
`humanevalfixtests-python@original`. Its version names the edition, so no two are ever mixed up.
Tasks that say how they tell their problems can be asked under a family of perturbations:
`humanevalsynthesize-python+perturb-format`.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

from astraios import registry
from astraios.errors import ConfigError, GenerationsError, UnknownNameError
from astraios.records import (
    Execution,
    Findings,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Score,
    Verdict,
)

__all__ = ["Problem", "Task", "names", "task", "task_of_version"]

_PUBLISHED = re.compile(r"perturbed-humaneval-(?P<category>[a-z_]+)-num_seeds_(?P<n>\d+)")
"""What the BigCode harness calls ReCode's tasks."""
_EXTRA_TESTS = re.compile(r"\+tests-[0-9a-f]+")
"""What a user's tests add to a version; no prompt and no cut depends on them."""
_CATEGORIES = MappingProxyType(
    {"format": "format", "func_name": "function", "natgen": "syntax", "nlaugmenter": "docstring"}
)
_HARNESS = MappingProxyType(
    {
        "clone_detection": "bigclonebench",
        "defect_detection": "devign",
        "asleep_completion": "aatk",
        **{
            f"humanevalexplaindescribe-{language}": f"humanevalexplainsynthesize-{language}"
            for language in ("python", "java", "js", "cpp", "go", "rust")
        },
    }
)
"""What the BigCode harness calls tasks of ours; its two steps of Explain are one task here."""

PERTURB = "perturb-"
"""What follows the `+` of a task's name, with a family behind it."""


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
    editions: tuple[str, ...] = ()
    """Readings of the data that can be asked for by name; the first is the default."""
    one_text_a_list: ClassVar[bool] = False
    """Whether the harness writes a list for every sample (3280 x 1), not one for every problem."""
    takes_records: ClassVar[bool] = False
    """Whether files may hold objects with labels in place of texts; see `text_of`."""
    data_name: ClassVar[str] = ""
    """Folder of a data folder that holds its problems; empty if they come with the package."""
    unfit_share: ClassVar[float] = 0.0
    """Problems of a file of lists that need not show their prompt, as a share of all: what a record
    with a label of its own lacks is the model's doing."""

    @abstractmethod
    def problems(self, data_dir: Path | None) -> Sequence[P]:
        """All problems, in order.

        Raises:
            MissingDataError: where the data was looked for and how to get it.
            DataError: a row that lacks a column.
        """

    def extent(self, data_dir: Path | None) -> tuple[int, P]:
        """How many `problems` there are, and the first; a plan asks no more than that.

        Raises:
            MissingDataError, DataError: as `problems` does.
        """
        found = self.problems(data_dir)
        return len(found), found[0]

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

    def log_odds(self, likelihoods: Mapping[str, float]) -> float | None:
        """Log-odds of the positive answer from the likelihoods of a prompt's `answers`."""
        return None

    @abstractmethod
    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        """Numbers of the whole task."""

    def tools(self) -> dict[str, str]:
        """Name -> version of what judging needs beside the toolchains of `languages`.

        Raises:
            MissingToolError: what is missing and what brings it.
        """
        return {}

    def references(self, problem: P) -> tuple[Program, Program] | None:
        """A program that must pass and one that must not, to check the machine before grading."""
        return None

    def known_exceptions(self) -> Mapping[str, str]:
        """Problem id -> why its right reference may fail on a machine that is in order."""
        return MappingProxyType({})

    def known_wrong_passes(self) -> Mapping[str, str]:
        """Problem id -> why its wrong reference passes although nothing is amiss."""
        return MappingProxyType({})

    def with_extra_tests(self, path: Path) -> Self:
        """This task with the tests in `path` behind the benchmark's own.

        Its version names them, so verdicts with and without them are never mixed up.

        Raises:
            ConfigError: if the task takes none.
            MissingDataError: if there is no such file.
            DataError: what does not fit, with file and line; unknown ids only with `problems`.
        """
        raise ConfigError(f"{self.name} takes no extra tests")

    def edition(self, name: str) -> Self:
        """This task on another edition of its data.

        Raises:
            UnknownNameError: if it has no such edition.
        """
        raise UnknownNameError(f"edition of {self.name}", name, self.editions)

    def perturbed(self, family: str) -> Task[Any]:
        """This task with its problems told differently; see `astraios.perturbations`.

        Raises:
            ConfigError: if its problems cannot be.
            UnknownNameError: if there is no such family.
        """
        raise ConfigError(
            f"{self.name} cannot be perturbed; tasks that can: humanevalsynthesize-python, "
            "minipack-synthesize"
        )

    def finished(self, turn: int) -> Callable[[str], bool] | None:
        """The rule by which a completion of this turn needs no more tokens, if there is one."""
        return None

    def head(self, problem: P) -> str:
        """What stands in front of a completion in a *final text* of `problem`.

        A final text is what the BigCode harness writes: the prompt, or a part of it, in front, and
        the completion behind it, cut at its end.
        """
        return ""

    def openings(self, problem: P) -> tuple[str, ...]:
        """What a final text of `problem` begins with, one of these; empty where anything goes.

        This tells whether a file of generations belongs to the task.
        """
        head = self.head(problem).rstrip()
        return (head,) if head else ()

    def fits(self, problem: P, text: str) -> bool:
        """Whether a final text is one of `problem`, where `openings` cannot say: it has none."""
        return True

    def n_shown(self, problem: P) -> int:
        """Characters of the prompt that a final text repeats, to choose between tasks that fit."""
        return len(next(iter(self.openings(problem)), ""))

    def text_of(self, problem: P, record: Mapping[str, Any], place: int) -> str:
        """The final text in what a harness saves in place of it: an object with labels.

        Args:
            problem: what the record should be about.
            record: the object.
            place: how many records stand in front of it.

        Raises:
            GenerationsError: if the task's files hold no such objects, or this one is not about
                `problem`.
        """
        raise GenerationsError("expected text, found an object")

    def final_text(self, problem: P, turns: tuple[str, ...]) -> str:
        """The final text of raw completions: what the BigCode harness writes for them.

        Judging it (`final_program`, or the verdict that reads it) decides as judging `turns` does.

        Raises:
            GenerationsError: if the task has no final texts.
        """
        raise GenerationsError(
            f"{self.name} has no final texts: export its raw completions with --format samples"
        )

    def saved(self, problem: P, text: str, place: int) -> str | dict[str, Any]:
        """What a harness's file holds for a final text: itself, or an object with labels, from
        which `text_of` reads it again.

        Args:
            problem: what the text answers.
            text: the final text.
            place: how many lists stand in front of it.
        """
        return text

    def final_program(self, problem: P, text: str) -> Program | None:
        """What to run for a final text that was imported: as it stands, nothing is cut.

        Raises:
            GenerationsError: if the task can only be graded from raw completions.
        """
        raise GenerationsError(
            f"{self.name} is graded from raw completions (`samples.jsonl`), not from final texts"
        )

    def card(self, problem: P) -> ProblemCard:
        """What a report shows of a problem."""
        return ProblemCard(id=problem.id, group=problem.group)


def names() -> tuple[str, ...]:
    """Full names of all tasks, in the order their files list them."""
    package = sys.modules[__name__]
    found: list[str] = []
    for part in registry.names(package):
        found += registry.load(package, "NAMES", part, tuple)
    return tuple(found)


def task(name: str) -> Task:  # type: ignore[type-arg]
    """The task called `name`.

    Such as `humanevalsynthesize-python`, `...-python@original` or `...-python+perturb-format`.
    The harness's names are known too: `perturbed-humaneval-format-num_seeds_5`, `clone_detection`.

    Raises:
        UnknownNameError: if there is none, or it has no such edition or perturbations; names the
            nearest one.
        ConfigError: if it cannot be perturbed.
    """
    package = sys.modules[__name__]
    published = _PUBLISHED.fullmatch(name)
    if published and published["category"] in _CATEGORIES:
        name = f"recode-{_CATEGORIES[published['category']]}@seeds-{published['n']}"
    name = _HARNESS.get(name, name)
    whole, plus, change = name.partition("+")
    if plus:
        if not change.startswith(PERTURB):
            raise UnknownNameError(f"variant of {whole}", change, [f"{PERTURB}<family>"])
        return task(whole).perturbed(change.removeprefix(PERTURB))
    plain, at, edition = whole.partition("@")
    for part in registry.names(package):
        if plain.startswith(part) and plain in registry.load(package, "NAMES", part, tuple):
            made: Task = registry.load(package, "task", part, Callable)(plain)  # type: ignore[type-arg]
            return made.edition(edition) if at else made
    raise UnknownNameError("task", plain, names())


def task_of_version(name: str, version: str) -> Task:  # type: ignore[type-arg]
    """The task that a manifest calls `name`, in the edition whose version is `version`.

    Raises:
        UnknownNameError: if there is no such task.
        ConfigError: if none of its editions has that version today.
    """
    whole, plus, change = name.partition("+")
    editions = [f"{whole}@{edition}{plus}{change}" for edition in task(whole).editions]
    known = {}
    for one in (name, *editions):
        made = task(one)
        if made.version == _EXTRA_TESTS.sub("", version):
            return made
        known[made.version] = one
    raise ConfigError(
        f"version {version!r} of {name} is not among those of this Astraios "
        f"({', '.join(known)}): prompts or cuts may have changed since"
    )
