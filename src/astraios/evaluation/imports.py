"""Generations of others as samples: read, checked against their task, counted.

    BigCode harness    a JSON list over problems of lists of final texts (164 x n); tasks of two
                       steps have one list for every sample (3280 x 1)
    ours               `samples.jsonl`: raw completions, or final texts where `finish` is `given`
    EvalPlus           one object a line: `task_id`, and `solution` (whole) or `completion`
    records            objects with labels in place of the texts, in the order of the problems: in
                       lists of one, in one list or one a line; see the tasks' `text_of`

Any of them may be gzip. A file is checked to its end before anything is run: what it holds for
which problem, whether each problem has as many samples as the others, and whether the texts begin
as the task's do. If another task fits instead, it is named. Raw samples tell by a hash which prompt
they answer; one that no task asks, as one that a tokenizer spelled, cannot be checked: a warning
says so.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from astraios import tasks
from astraios.errors import DataError, GenerationsError, MissingDataError, did_you_mean
from astraios.evaluation.generations_file import (
    LONGEST_TEXT,
    TOO_LONG,
    Shape,
    kind,
    line_items,
    list_items,
    shape,
)
from astraios.generation.keys import prompt_sha
from astraios.records import Finish, Sample
from astraios.tasks import Problem, Task
from astraios.templates import NAMES

log = logging.getLogger(__name__)

HUMANEVAL = "HumanEval/"
"""Prefix of EvalPlus's ids; the problems are those of HumanEvalPack, by number."""


@dataclass(frozen=True)
class Item:
    """One text of the file, and where it stands."""

    problem: Problem
    sample: Sample
    line: int = 0
    """Where it stands in a file of lines, counted from 1."""
    free: bool = False
    """Whether it may begin as it likes: EvalPlus solutions are programs of their own."""


@dataclass(frozen=True)
class Generations:
    """A file of generations, read as those of one task."""

    path: Path
    task: Task[Any]
    problems: Sequence[Problem]
    """All problems of the task, in order."""
    data_dir: Path | None = None
    """Where other tasks find their problems, should the file belong to one of them."""
    limit_problems: int | None = None
    limit_samples: int | None = None
    _n_lists: int = field(default=0, init=False)
    _shape: Shape = field(default=Shape.LINES, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shape", shape(self.path))
        if self._shape is Shape.LISTS:
            object.__setattr__(self, "_n_lists", self._count_lists())

    def check(self, rivals: Sequence[str] = ()) -> int:
        """Read the whole file and return the number of its samples.

        Args:
            rivals: names of tasks that the file may belong to instead.

        Raises:
            GenerationsError: what does not fit, where, and what was expected.
        """
        try:
            n_samples = self._check_counts()
            self._check_openings()
        except _UnfitError as unfit:
            others = (name for name in rivals if name != self.task.name)
            n_fits, n_problems, _ = self._fit(self.task, 0)
            suggestion = "" if 0 < n_fits == n_problems else self._suggest(others)
            if suggestion or not isinstance(unfit, _UnknownPromptError):
                raise GenerationsError(f"{self.path}: {unfit}{suggestion}") from None
            log.warning("%s: %s, nor another task's: it is taken as given", self.path, unfit)
        self._refuse_closer([name for name in rivals if _is_kin(name, self.task.name)])
        return n_samples

    def samples(self) -> Iterator[Sample]:
        """The samples in file order; `check` says whether they are what they should be."""
        for item in self.items():
            yield item.sample

    def items(self) -> Iterator[Item]:
        """The texts of the file, those of problems that are left out not among them."""
        items = self._from_lists() if self._shape is Shape.LISTS else self._from_lines()
        wanted = {problem.id for problem in self.problems[: self.limit_problems]}
        return (item for item in items if item.problem.id in wanted)

    # --- lists ---

    def _count_lists(self) -> int:
        return sum(place in (None, -1) for _, place, _ in list_items(self.path))

    def _from_lists(self) -> Iterator[Item]:
        n_per_problem = self._lists_per_problem()
        for number, place, value in list_items(self.path):
            problem = self.problems[number // n_per_problem]
            if place is None:
                continue
            if place < 0 and isinstance(value, dict) and self.task.takes_records:
                place = 0
            if place < 0:
                raise GenerationsError(
                    f"{self.path}: problem {problem.id}: expected a list of texts, "
                    f"found {kind(value)}"
                )
            if self.task.one_text_a_list:
                if place:
                    raise _UnfitError(
                        f"list {number + 1} holds several texts, but {self.task.name} expects one "
                        f"in each list, {len(self.problems)} x n lists in all"
                    )
                index = number % n_per_problem
            else:
                index = place
            where = f"problem {problem.id}, sample {index}"
            if isinstance(value, dict):
                value = self._text_of(problem, value, number, where)
            yield Item(problem, self._final(problem, index, value, where))

    def _lists_per_problem(self) -> int:
        n_problems = len(self.problems)
        if self.task.one_text_a_list:
            for n in (n_problems, min(self.limit_problems or n_problems, n_problems)):
                if self._n_lists and self._n_lists % n == 0:
                    return self._n_lists // n
            expected = f"{n_problems} problems x n samples, one text in each list"
        else:
            if self._n_lists in (n_problems, min(self.limit_problems or n_problems, n_problems)):
                return 1
            expected = f"{n_problems}, one for every problem"
        few = (
            f"; if it answers the first {self._n_lists} only, add --limit-problems {self._n_lists}"
        )
        raise _UnfitError(
            f"{self._n_lists} lists, but {self.task.name} expects {expected}"
            + few * (0 < self._n_lists < n_problems and not self.limit_problems)
        )

    def _final(self, problem: Problem, index: int, text: Any, where: str) -> Sample:
        self._must_be_text(text, where)
        return Sample(
            problem_id=problem.id,
            index=index,
            prompt_sha="",
            completion=text,
            finish=Finish.GIVEN,
        )

    def _text_of(self, problem: Problem, record: dict[str, Any], place: int, where: str) -> str:
        try:
            return self.task.text_of(problem, record, place)
        except GenerationsError as error:
            raise GenerationsError(f"{self.path}: {where}: {error}") from None

    def _must_be_text(self, text: Any, where: str) -> None:
        if not isinstance(text, str):
            raise GenerationsError(f"{self.path}: {where}: expected text, found {kind(text)}")
        if len(text) > LONGEST_TEXT:
            raise GenerationsError(f"{self.path}: {where}: {TOO_LONG}")

    # --- lines ---

    def _from_lines(self) -> Iterator[Item]:
        by_id = {problem.id: problem for problem in self.problems}
        indexes: Counter[str] = Counter()
        for place, (number, row) in enumerate(line_items(self.path)):
            where = f"line {number}"
            if "problem_id" in row:
                sample = self._ours(row, where)
                problem = self._problem(by_id, sample.problem_id, where)
            elif "task_id" in row:
                problem = self._problem(by_id, row["task_id"], where)
                sample = self._evalplus(problem, indexes[problem.id], row, where)
                indexes[problem.id] += 1
            elif "scenario_id" in row:
                problem = self._problem(by_id, row["scenario_id"], where)
                text = self._text_of(problem, row, place, where)
                sample = self._final(problem, indexes[problem.id], text, where)
                indexes[problem.id] += 1
            elif "raw_text" in row:
                if place >= len(self.problems):
                    raise _UnfitError(
                        f"{where}: {self.task.name} has {len(self.problems)} problems, one a line"
                    )
                problem = self.problems[place]
                text = self._text_of(problem, row, place, where)
                sample = self._final(problem, 0, text, where)
            else:
                raise GenerationsError(
                    f"{self.path}: {where}: expected the field 'problem_id' (our samples) or "
                    f"'task_id' (EvalPlus), found {', '.join(map(repr, row)) or 'none'}"
                )
            yield Item(problem, sample, number, free="solution" in row)

    def _problem(self, by_id: dict[str, Problem], name: Any, where: str) -> Problem:
        if isinstance(name, str) and name.startswith(HUMANEVAL):
            prefix = self.problems[0].id.partition("/")[0]
            name = f"{prefix}/{name.removeprefix(HUMANEVAL)}"
        if not isinstance(name, str) or name not in by_id:
            hint = did_you_mean(str(name), by_id) or f" Its first is {self.problems[0].id!r}"
            raise _UnfitError(f"{where}: {self.task.name} has no problem {name!r}.{hint}")
        return by_id[name]

    def _ours(self, row: dict[str, Any], where: str) -> Sample:
        try:
            sample = Sample.model_validate_json(json.dumps(row))
        except ValidationError as error:
            first = error.errors()[0]
            field_ = ".".join(map(str, first["loc"]))
            raise GenerationsError(
                f"{self.path}: {where}: not a sample: {field_}: {first['msg']}"
            ) from None
        if not (0 <= sample.index < 2**31 and 0 <= sample.turn < 2**31):
            raise GenerationsError(
                f"{self.path}: {where}: index {sample.index}, turn {sample.turn}: counted from 0"
            )
        self._must_be_text(sample.completion, where)
        return sample

    def _evalplus(self, problem: Problem, index: int, row: dict[str, Any], where: str) -> Sample:
        if "solution" in row:
            return self._final(problem, index, row["solution"], where)
        if "completion" not in row:
            raise GenerationsError(
                f"{self.path}: {where}: expected the field 'solution' or 'completion', "
                f"found {', '.join(map(repr, row))}"
            )
        self._must_be_text(row["completion"], where)
        return self._final(problem, index, self.task.head(problem) + row["completion"], where)

    # --- checks ---

    def _check_counts(self) -> int:
        """Every problem has the same number of samples, or at least as many as are judged."""
        if self._shape is Shape.LISTS:
            self._lists_per_problem()
        keys = self._keys()
        self._refuse_twins(keys)
        distinct = np.unique(keys[:2], axis=1)  # turns of one sample count once
        wanted = self.problems[: self.limit_problems]
        found = np.bincount(distinct[0], minlength=len(wanted))
        counts = [(problem.id, int(n)) for problem, n in zip(wanted, found, strict=True)]
        most = max(n for _, n in counts)
        needed = most if self.limit_samples is None else min(most, self.limit_samples)
        for name, n in counts:
            if n == 0 or n < needed:
                few = f"problem {name} has {n or 'no'} sample{'s' * (n != 1)}"
                advice = f"; --limit-samples {n} takes as many of each" if n else ""
                raise _UnfitError(f"{few}, others have {most}: the file is incomplete{advice}")
        return sum(n for _, n in counts)

    def _keys(self) -> NDArray[np.int64]:
        """One column a sample: place of its problem, index, turn, line. 32 bytes, not a text."""
        places = {problem.id: place for place, problem in enumerate(self.problems)}
        columns = array("q"), array("q"), array("q"), array("q")
        for item in self.items():
            key = places[item.problem.id], item.sample.index, item.sample.turn, item.line
            for column, value in zip(columns, key, strict=True):
                column.append(value)
        return np.stack([np.array(column, dtype=np.int64) for column in columns])

    def _refuse_twins(self, keys: NDArray[np.int64]) -> None:
        order = np.lexsort(keys[::-1])
        before, after = keys[:, order[:-1]], keys[:, order[1:]]
        twins = np.flatnonzero((before[:3] == after[:3]).all(axis=0))
        if len(twins):
            at = twins[np.argmin(after[3, twins])]
            place, index, turn, line = (int(value) for value in after[:, at])
            raise GenerationsError(
                f"{self.path}: line {line}: sample {index}, turn {turn} of problem "
                f"{self.problems[place].id} is there twice, first on line {before[3, at]}"
            )

    def _check_openings(self) -> None:
        """Each problem has a text that begins as its prompt does."""
        fits = _fits(self)
        unfit = next((name for name, fit in fits.items() if not fit), None)
        if unfit is None:
            return
        if self._shape is Shape.LINES and any(fits.values()):
            return  # not in order by nature: what does not fit is the model's doing
        n_unfit = sum(not fit for fit in fits.values())
        if n_unfit <= self.task.unfit_share * len(fits):
            return
        problem = next(problem for problem in self.problems if problem.id == unfit)
        opening = next((f", {_clip(text)}" for text in self.task.openings(problem)), "")
        if self._shape is Shape.LISTS:
            raise _UnfitError(
                f"problem {unfit}: completion does not start with its prompt{opening}"
            )
        kind = _UnknownPromptError if self._is_raw() else _UnfitError
        raise kind(f"problem {unfit}: the prompt that was answered is not the task's{opening}")

    def _is_raw(self) -> bool:
        """Whether all of its texts are raw completions, of prompts known by their hash alone."""
        return all(item.sample.finish is not Finish.GIVEN for item in self.items())

    def _refuse_closer(self, rivals: Iterable[str]) -> None:
        """FixTests openings are beginnings of Synthesize openings: the longer ones decide."""
        if self._shape is Shape.LINES:
            return
        own = _length(self.task, self.problems)
        suggestion = self._suggest(rivals, longer_than=own)
        if suggestion:
            raise GenerationsError(
                f"{self.path}: texts repeat more than the prompts of {self.task.name}{suggestion}"
            )

    def _suggest(self, rivals: Iterable[str], longer_than: int = 0) -> str:
        """The rival that fits best, as the end of a message; empty if none fits."""
        fits = [(*self._fit(tasks.task(name), longer_than), name) for name in rivals]
        fits = [fit for fit in fits if 10 * fit[0] >= 9 * fit[1] > 0 and fit[2] > longer_than]
        if not fits:
            return ""
        # of equals the last: `humanevalsynthesize` comes after the variants that share its prompts
        best = max(reversed(fits), key=lambda fit: (fit[0], fit[2]))
        equal = [fit[3] for fit in fits if fit[:3] == best[:3] and fit != best]
        others = f" (or {', '.join(equal)})" if equal else ""
        return (
            f"; {best[0]} of {best[1]} start with the prompts of {best[3]}; "
            f"did you mean that task?{others}"
        )

    def _fit(self, task: Task[Any], longer_than: int) -> tuple[int, int, int]:
        """How many problems of `task` fit, out of how many, and the length of its openings."""
        if self.data_dir is None and not _has_data_of(task, self.task):
            return 0, 0, 0  # nothing is downloaded to word a message
        try:
            problems = task.problems(self.data_dir)
            length = _length(task, problems)
            if length <= longer_than:
                return 0, 0, 0
            fits = _fits(Generations(self.path, task, problems, limit_problems=self.limit_problems))
        except (GenerationsError, MissingDataError, DataError):
            return 0, 0, 0
        return sum(fits.values()), len(fits), length


def _is_kin(name: str, other: str) -> bool:
    """Whether two tasks put the same problems, in the same language: `humanevalfixdocs-python`
    and `humanevalsynthesize-python`."""
    return name != other and name.rpartition("-")[2] == other.rpartition("-")[2]


def _has_data_of(task: Task[Any], other: Task[Any]) -> bool:
    """Whether two tasks read the same files, as far as their names tell."""
    family = task.name.partition("-")[0] == other.name.partition("-")[0]
    return task.languages == other.languages and (family or bool(task.languages))


class _UnfitError(GenerationsError):
    """The file may belong to another task."""


class _UnknownPromptError(_UnfitError):
    """What was asked is known by its hash alone, and no template of the task makes it."""


def _fits(generations: Generations) -> dict[str, bool]:
    """Problem id -> whether one of its texts begins as it should."""
    fits: dict[str, bool] = {}
    expected: dict[str, tuple[str, ...]] = {}
    for item in generations.items():
        name = item.problem.id
        if fits.get(name):
            continue
        if name not in expected:
            expected[name] = generations.task.openings(item.problem)
        fits[name] = _fit(generations.task, item, expected[name])
    return fits


def _fit(task: Task[Any], item: Item, openings: tuple[str, ...]) -> bool:
    sample = item.sample
    if item.free or sample.turn:
        return True
    if sample.finish is Finish.GIVEN:
        if not openings:
            return task.fits(item.problem, sample.completion)
        return sample.completion.startswith(openings)
    return not sample.prompt_sha or sample.prompt_sha in _prompt_shas(task, item.problem)


def _prompt_shas(task: Task[Any], problem: Problem) -> set[str]:
    found = set()
    for template in NAMES:
        try:
            prompt = task.prompt(problem, (), template)
        except ValueError:  # this task is not asked with that template
            continue
        if prompt is not None:
            found.add(prompt_sha(prompt.text))
    return found


def _length(task: Task[Any], problems: Sequence[Problem]) -> int:
    return sum(task.n_shown(problem) for problem in problems)


def _clip(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
