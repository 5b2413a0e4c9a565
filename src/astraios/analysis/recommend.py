"""Which method to take within a budget: those as good as the best, as far as a study can tell.

Of the models that keep within every limit, the one with the highest score leads; the untuned base
may, but is never recommended. Each other one is compared with it on the same problems; p-values are
adjusted over all pairs of them (Holm 1979), which stays valid though the leader was picked after
the fact. Those that cannot be told from it are left, and of these the ones that no other dominates:
as high a score at no higher cost. A cost that is not known of one of two is not "no higher".

Costs are those recorded: parameters trained, peak memory and wall time of training, and the size of
the base where there are several. Measured ones count as different from 5 % on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from astraios.analysis import style
from astraios.analysis.claims.evidence import Evidence, evidence
from astraios.analysis.comparison import holm
from astraios.analysis.draws import Estimate, Floats
from astraios.analysis.limits import Breach, Limits, Mergeable, Price, breaches, prices
from astraios.errors import ConfigError, UnknownNameError
from astraios.metrics import Interval
from astraios.metrics.paired import LEVEL, POWER

if TYPE_CHECKING:
    from astraios.analysis.frames import Frames

MEASURED_APART = 0.05
"""Share by which two measured costs have to differ to count as different."""
COSTS = {"trainable": 0.0, "size": 0.0, "memory_mib": MEASURED_APART, "hours": MEASURED_APART}
"""Cost of a `Price` -> share by which two of them have to differ."""


@dataclass(frozen=True)
class Candidate:
    """A base model and a method, and how it compares."""

    model: str
    method: str
    price: Price
    score: Interval
    n_problems: int
    n_seeds: int
    breaches: tuple[Breach, ...]
    """Limits it breaks, or of which that is not known; it fits if there are none."""
    difference: Interval | None = None
    """Its score less that of the leader, paired; None for the leader and for what does not fit."""
    p_holm: float | None = None
    tied: bool = False
    """Cannot be told from the leader, or leads."""
    dominated_by: str | None = None
    """Among the tied: one that scores as high and costs no more."""

    @property
    def fits(self) -> bool:
        """Whether every limit is kept, by what was recorded."""
        return not self.breaches

    @property
    def recommended(self) -> bool:
        """Whether it is among those to take."""
        solves = self.score.value > 0  # where nothing is solved there is nothing to choose by
        return self.tied and self.dominated_by is None and self.tuned and solves

    @property
    def tuned(self) -> bool:
        """Whether it is more than a base model as it comes."""
        return self.method != style.BASE


@dataclass(frozen=True)
class Recommendation:
    """What to take, and why."""

    candidates: tuple[Candidate, ...]
    """Best score first: those that fit, then the others."""
    tasks: tuple[tuple[str, float], ...]
    """Task and its weight; they sum to one."""
    limits: Limits
    n_pairs: int
    detectable: float | None
    """Difference in score that would have been seen with a chance of 80 %; None without a pair."""
    unjudged: tuple[str, ...]
    """Cells without a score on all of the tasks."""
    notes: tuple[str, ...]
    """What is missing in the study, in whole sentences."""

    @property
    def recommended(self) -> tuple[Candidate, ...]:
        """Those to take, best score first."""
        return tuple(found for found in self.candidates if found.recommended)

    @property
    def fitting(self) -> tuple[Candidate, ...]:
        """Those within the budget, best score first; the untuned base is among them."""
        return tuple(found for found in self.candidates if found.fits)

    @property
    def leader(self) -> Candidate | None:
        """The one with the highest score within the budget."""
        return self.fitting[0] if self.fitting else None


def recommend(
    frames: Frames,
    limits: Limits,
    mergeable: Mergeable,
    *,
    weights: Mapping[str, float] | None = None,
    model: str | None = None,
) -> Recommendation:
    """What the study in `frames` says to take within `limits`.

    Args:
        frames: a study, finished or not.
        limits: the budget.
        mergeable: of a method, whether it can be folded into its base.
        weights: task -> weight; all tasks that measure quality, equally, if left out.
        model: this base model alone.

    Raises:
        UnknownNameError: if a task or the model was not judged.
        ConfigError: if a weight is not above zero.
    """
    known = evidence(frames, across=model is None)
    chosen = _weights(known, weights)
    judged = sorted({cell[0] for cell in known.draws.cells})
    if model is not None and model not in judged:
        raise UnknownNameError("judged base model", model, judged)
    priced = prices(frames, mergeable)
    cells = [cell for cell in known.draws.cells if model in (None, cell[0])]
    whole = [
        cell for cell in cells if chosen and all(known.draws.judged(*cell, task) for task in chosen)
    ]
    shares_K = _shares(known, chosen)
    n = known.n_problems(chosen, {name for name, _ in cells})
    candidates = []
    for cell in whole:
        row = known.draws.row(*cell)
        score = known.draws.score(row, shares_K)
        candidates.append(
            Candidate(
                *cell,
                priced[cell],
                Interval(score.value, max(0.0, score.low), min(1.0, score.high)),
                n,
                int(known.draws.n_seeds_M[row]),
                breaches(priced[cell], limits, cell[1]),
            )
        )
    places = {name: place for place, name in enumerate(style.order({c.method for c in candidates}))}
    candidates.sort(key=lambda c: (not c.fits, -c.score.value, c.model, places[c.method]))
    fitting = [candidate for candidate in candidates if candidate.fits]
    compared, n_pairs, detectable = _compared(known, chosen, fitting)
    unjudged = [f"{style.title(b)} ({a})" for a, b in cells if (a, b) not in set(whole)]
    return Recommendation(
        (*compared, *candidates[len(fitting) :]),
        tuple(chosen.items()),
        limits,
        n_pairs,
        detectable,
        tuple(unjudged),
        (*known.notes, *frames.notes),
    )


def _weights(known: Evidence, given: Mapping[str, float] | None) -> dict[str, float]:
    if given is None:
        judged = {model for model, _ in known.draws.cells}
        counting = [
            task
            for task in known.quality_tasks
            if task in known.draws.tasks
            and any(known.above_chance.get((model, task), True) for model in judged)
        ]
        return {task: 1 / len(counting) for task in counting}
    for task, weight in given.items():
        if task not in known.kinds:
            raise UnknownNameError("judged task", task, known.kinds)
        if not 0 < weight < float("inf"):
            raise ConfigError(f"the weight of {task} must be above zero, got {weight:g}")
    total = sum(given.values())
    return {task: weight / total for task, weight in given.items()}


def _shares(known: Evidence, tasks: Mapping[str, float]) -> Floats:
    """Weight of every task in the study; zero for those that do not count."""
    return np.array([tasks.get(task, 0.0) for task in known.draws.tasks])


def _compared(
    known: Evidence, tasks: Mapping[str, float], fitting: Sequence[Candidate]
) -> tuple[list[Candidate], int, float | None]:
    """The fitting ones with their differences from the first; pairs, and what can be detected."""
    if not fitting:
        return [], 0, None
    rows = [known.draws.row(candidate.model, candidate.method) for candidate in fitting]
    found = known.draws.differences(rows, _shares(known, tasks))
    pairs = list(combinations(range(len(fitting)), 2))
    first, second = np.triu_indices(len(fitting), 1)  # the same pairs, in the same order
    raw = found.p_equal()[first, second]
    adjusted = dict(zip(pairs, holm(list(raw)), strict=True))
    tied = [True, *(adjusted[0, j] >= LEVEL for j in range(1, len(fitting)))]
    from_leader = [found.of(j, 0) for j in range(len(fitting))]
    rivals = [other for k, other in enumerate(fitting) if tied[k] and other.tuned]
    # What was recorded of none of them tells none of them apart.
    costs = [name for name in COSTS if any(getattr(c.price, name) is not None for c in rivals)]
    compared = []
    for j, candidate in enumerate(fitting):
        values = dict(vars(candidate), tied=tied[j])
        if j:
            values |= {"difference": from_leader[j].interval, "p_holm": adjusted[0, j]}
        if tied[j] and candidate.tuned:
            others = [other for other in rivals if other is not candidate]
            values["dominated_by"] = next(
                (_name(other) for other in others if _dominates(other, candidate, costs)), None
            )
        compared.append(Candidate(**values))
    return compared, len(pairs), _detectable(from_leader[1:], len(pairs))


def _detectable(from_leader: Sequence[Estimate], n_pairs: int) -> float | None:
    """Difference found with `POWER` at Holm's first step; the median over the leader's pairs."""
    if not from_leader:
        return None
    tail = LEVEL / 2 / n_pairs
    each = [(e.quantile(1 - tail) + e.quantile(POWER)) * e.error for e in from_leader]
    return float(np.median(each))


def _name(candidate: Candidate) -> str:
    return f"{candidate.method} ({candidate.model})"


def _dominates(a: Candidate, b: Candidate, costs: Sequence[str]) -> bool:
    """Whether `a` scores as high as `b`, is known to cost no more, and is better in something."""
    if a.score.value < b.score.value or not costs:
        return False
    better = a.score.value > b.score.value
    for name in costs:
        if name == "size" and a.model == b.model:
            continue
        own, other, tolerance = getattr(a.price, name), getattr(b.price, name), COSTS[name]
        if own is None or other is None or own > other * (1 + tolerance):
            return False
        better = better or own < other * (1 - tolerance)
    return better
