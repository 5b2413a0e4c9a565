"""Scores of a task whose answers are yes or no, each beside what guessing gets.

Intervals are bootstraps over problems (10,000 resamples, as in `metrics`). A table of answers has
six cells, so a resample is a draw of how many problems fall into each: no problem is touched. A
problem with several samples weighs as much as one with a single one.

A score is held against the best guess that does not look at the problem. Both are computed on each
resample, and the score is `above` or `below` chance only if the whole 95 % interval of their
difference is. Scores of a classifier without their chance level invite to read 50 % as half right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from astraios.metrics import confusion
from astraios.metrics.confusion import INVALID, Floats, Guess, Metric, best_guess, guessed
from astraios.records import Score

N_RESAMPLES = 10_000
TAIL = 0.025

PAPER = "f1-macro"
"""Over the classes that occur, "invalid" among them: the paper's number."""
THREE_CLASS = "f1-macro-three-class"
"""The same number where it stands beside the two-class one in a clean protocol."""
MAJORITY, COIN = "majority-baseline", "chance-baseline"
"""Accuracy of the more frequent class throughout, and of a coin."""


@dataclass(frozen=True)
class Reading:
    """What was made of one completion."""

    problem_id: str
    label: bool
    answer: bool | None


@dataclass(frozen=True)
class Measure:
    """One metric of answers."""

    metric: Metric
    by_guess: Metric | None
    """What a guess is measured by; None where guessing has no rate."""
    on_valid: bool = False
    """Whether only problems with a valid answer are counted."""


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "accuracy": Measure(confusion.accuracy, confusion.accuracy),
        "balanced-accuracy": Measure(confusion.balanced_accuracy, confusion.balanced_accuracy),
        "mcc": Measure(confusion.matthews, confusion.matthews),
        "f1-macro-two-class": Measure(confusion.f1_two_class, confusion.f1_two_class),
        "valid-rate": Measure(confusion.valid_rate, None),
        "accuracy-on-valid": Measure(confusion.accuracy_on_valid, confusion.accuracy, True),
        "f1-on-valid": Measure(confusion.f1_on_valid, confusion.f1_on_valid, True),
    }
)


@dataclass(frozen=True)
class Sums:
    """How many problems, and samples of them, one score counts."""

    n_problems: int
    n_samples: int


class Table:
    """The answers of one slice as a table of confusion, and 10,000 resamples of it."""

    def __init__(self, readings: Sequence[Reading], *, seed: int = 0) -> None:
        cells: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        for reading in readings:
            answer = INVALID if reading.answer is None else int(reading.answer)
            cells[reading.problem_id][int(reading.label), answer] += 1
        self.all = Sums(len(cells), len(readings))
        self.valid = Sums(
            sum(any(a != INVALID for _, a in counts) for counts in cells.values()),
            sum(reading.answer is not None for reading in readings),
        )
        kinds = Counter(
            tuple(counts[t, a] / counts.total() for t in (0, 1) for a in (0, 1, INVALID))
            for counts in cells.values()
        )
        ordered = sorted(kinds.items())  # so that the order of the readings changes nothing
        shapes = np.array([kind for kind, _ in ordered], dtype=np.float64).reshape(-1, 6)
        sizes = np.array([n for _, n in ordered], dtype=np.float64)
        self.whole: Floats = (sizes @ shapes).reshape(2, 3)
        random = np.random.default_rng(seed)
        n = len(cells)
        drawn = random.multinomial(n, sizes / n, size=N_RESAMPLES) if n else np.zeros((0, 0))
        self.resampled: Floats = (drawn @ shapes).reshape(-1, 2, 3)

    def measure(self, task: str, name: str, slice_: str, measure: Measure, faults: int) -> Score:
        """One score with its interval and its chance level."""
        value = float(measure.metric(self.whole))
        chance, verdict = self._against_chance(measure)
        low, high = _interval(measure.metric(self.resampled), value)
        sums = self.valid if measure.on_valid else self.all
        return Score(
            task=task,
            metric=name,
            slice=slice_,
            value=_number(value),
            low=low,
            high=high,
            n_problems=sums.n_problems,
            n_samples=sums.n_samples,
            n_faults=faults,
            chance=chance,
            against_chance=verdict,
        )

    def _against_chance(
        self, measure: Measure
    ) -> tuple[float | None, Literal["above", "below", "indistinguishable"] | None]:
        if measure.by_guess is None or not len(self.resampled):
            return None, None
        whole, resampled = (
            confusion.valid(C) if measure.on_valid else C for C in (self.whole, self.resampled)
        )
        guess: Guess = best_guess(measure.by_guess, whole)
        if np.isnan(guess.value):
            return None, None
        luck = measure.by_guess(guessed(resampled, guess.says_yes))
        low, high = _quantiles(measure.metric(self.resampled) - luck)
        if low is None or high is None:
            return guess.value, None
        if low > 1e-12:
            return guess.value, "above"
        return guess.value, "below" if high < -1e-12 else "indistinguishable"


def answer_scores(
    task: str, slice_: str, readings: Sequence[Reading], *, n_faults: int = 0, three_class: str
) -> list[Score]:
    """All scores of one slice.

    Args:
        task: name of the task.
        slice_: name of the slice.
        readings: one a sample, faults left out.
        n_faults: samples that could not be judged.
        three_class: what to call the macro F1 over the classes that occur, `PAPER` or
            `THREE_CLASS`.
    """
    table = Table(readings)
    n_classes = max(confusion.n_occurring(table.whole), 1)
    occurring = partial(confusion.f1_occurring, n_classes=n_classes)
    measures = dict(MEASURES)
    found = [table.measure(task, "accuracy", slice_, measures.pop("accuracy"), n_faults)]
    measures = {three_class: Measure(occurring, confusion.f1_two_class), **measures}
    found += [table.measure(task, name, slice_, m, n_faults) for name, m in measures.items()]
    return found + _baselines(task, slice_, table, n_faults)


def _baselines(task: str, slice_: str, table: Table, n_faults: int) -> list[Score]:
    sizes = table.whole.sum(-1)
    says_yes = float(sizes[1] > sizes[0])
    found = []
    for name, chance in ((MAJORITY, says_yes), (COIN, 0.5)):
        constant = partial(_of_guess, says_yes=chance)
        found.append(table.measure(task, name, slice_, Measure(constant, None), n_faults))
    return found


def _of_guess(C: Floats, says_yes: float) -> Floats:
    return confusion.accuracy(guessed(C, says_yes))


def _interval(resampled: Floats, value: float) -> tuple[float | None, float | None]:
    low, high = _quantiles(resampled)
    if low is None or high is None or np.isnan(value):
        return None, None
    return min(low, value), max(high, value)


def _quantiles(values: Floats) -> tuple[float | None, float | None]:
    kept = values[~np.isnan(values)]  # a resample without a valid answer has no such number
    if not len(kept):
        return None, None
    low, high = np.quantile(kept, (TAIL, 1 - TAIL))
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
