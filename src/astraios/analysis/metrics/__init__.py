"""Numbers of a task beside its primary one: one file each, found by its name.

Every public module exports a `metric`. It says what each problem contributes (`parts`) and how the
contributions of all problems become one number (`value`); the interval, the average over seeds and
the table come by themselves. Names of other projects come through entry points in the group
`astraios.analysis.metrics`; `docs/how-to/add-a-metric.md` shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from astraios.metrics import Floats, confusion
from astraios.records import Outcome

__all__ = ["Judged", "Measure", "Metric", "ratio"]

WRONG = frozenset(Outcome) - {Outcome.FAULT, Outcome.PASSED, Outcome.SAFE, Outcome.VULNERABLE}


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdicts of one arm on one task, counted a problem. Every array has a row a problem."""

    problems: tuple[str, ...]
    counts: Mapping[tuple[Outcome, str | None], Floats]
    """Outcome and right answer (None where the task has none) -> verdicts of each problem."""
    robust: Floats
    """Completions judged and completions that pass for every variant of the prompt, two columns;
    problems are then groups of variants. No rows for other tasks."""

    def n(self, outcomes: Iterable[Outcome], expected: str | None = None) -> Floats:
        """Verdicts of each problem with one of `outcomes` (and this right answer, if given)."""
        wanted = frozenset(outcomes)
        found = np.zeros(len(self.problems))
        for (outcome, answer), n in self.counts.items():
            if outcome in wanted and expected in (None, answer):
                found += n
        return found

    @property
    def n_counted(self) -> Floats:
        """Verdicts of each problem that are no faults."""
        return self.n(frozenset(Outcome) - {Outcome.FAULT})

    @property
    def n_passed(self) -> Floats:
        """Passes of each problem; of questions, right answers."""
        return self.n({Outcome.PASSED})


def ratio(sums: Floats) -> Floats:
    """First part over second, NaN where that is zero."""
    return confusion.ratio(sums[..., 0], sums[..., 1])


@dataclass(frozen=True)
class Measure:
    """One number: what problems contribute, and what is made of the contributions."""

    name: str
    """As it stands in tables: `pass@10`."""
    parts: Floats
    """A row a problem, a column each part of its contribution; rows with a NaN do not count."""
    value: Callable[[Floats], Floats]
    """Sums of the parts over problems, in the last axis -> the number. Called on whole stacks."""
    chance: Callable[[Floats], float] | None = None
    """Sums of the parts -> what the best guess gets that looks at no problem."""

    @classmethod
    def average(cls, name: str, values: Floats) -> Measure:
        """The mean of one value a problem; NaN where a problem has none."""
        ones = np.where(np.isnan(values), np.nan, 1.0)
        return cls(name, np.stack([values, ones], axis=1), ratio)


@dataclass(frozen=True)
class Metric:
    """One kind of number, of the tasks it suits."""

    title: str
    applies_to: Callable[[str], bool]
    """Whether tasks of this kind have it: "pass", "robust", "classification" or "security"."""
    measures: Callable[[Judged], tuple[Measure, ...]]
    """The numbers of one arm on one task; none where there are too few samples for any."""
