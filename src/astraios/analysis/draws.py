"""Scores of all arms at once, and how they would vary with other problems and other seeds.

    S_RMK    redrawn scores        M models tuned by one method each, K tasks, R redraws

A redraw takes the problems of every task anew, with replacement, and the same ones for all arms:
what makes a problem hard for all of them cancels in differences. Tasks that ask about the same
problems are redrawn together. To that comes what another training seed would change: deviations of
single seeds from the mean of their arm, pooled over all arms with several seeds and widened by
`sqrt(k / (k - 1))` (they are deviations from a mean of k that holds them). An arm of one seed gets
the pooled spread too, but not the untuned base, which no seed can change; where no arm has two
seeds, the spread is not known and left out (`n_spare_seeds`).

The standard error of a difference never falls below `sqrt(2) / (n + 2)` for a task of n problems:
as if one more problem had been won and one more lost (Bonett and Price 2012, J. Educ. Behav. Stat.
37). Without it two arms that agree on all of 20 problems would be equal beyond doubt. For any other
statistic, what one more problem won moves it by takes the place of `1 / (n + 2)`. The degrees
of freedom of redrawn problems are those of the smallest task that is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astraios.analysis import style
from astraios.analysis.columns import rows_of
from astraios.metrics import Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Cell = tuple[str, str]
"""A base model and a method."""

N_REDRAWS = 2_000
ROWS_AT_A_TIME = 1 << 22
"""Bound on the weights held in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error, and how well that is known."""

    value: float
    error: float
    df: float
    """Degrees of freedom of `error` (Satterthwaite, where problems and seeds both vary)."""

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval by Student's t."""
        return self.value - self.quantile(0.975) * self.error

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self.quantile(0.975) * self.error

    @property
    def interval(self) -> Interval:
        """The value with its 95 % interval."""
        return Interval(self.value, self.low, self.high)

    def quantile(self, q: float) -> float:
        """Student's `q` quantile at these degrees of freedom."""
        from scipy.stats import t

        return float(t.ppf(q, self.df))

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or less"."""
        from scipy.stats import t

        return float(t.sf((self.value - bound) / self.error, self.df))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or more"."""
        return Estimate(-self.value, self.error, self.df).p_above(-bound)

    def shifts(self, bound: float) -> float:
        """How many standard errors lie between the value and `bound`; signed."""
        return (self.value - bound) / self.error


@dataclass(frozen=True, eq=False)
class Differences:
    """Estimates of score `i` less score `j` for every pair of n arms: arrays `(n, n)`."""

    value: Floats
    error: Floats
    df: Floats

    def of(self, i: int, j: int) -> Estimate:
        """That of one pair."""
        return Estimate(float(self.value[i, j]), float(self.error[i, j]), float(self.df[i, j]))

    def p_equal(self) -> Floats:
        """Two-sided p-values of "both are equal"."""
        from scipy.stats import t

        found: Floats = np.minimum(1.0, 2 * t.sf(np.abs(self.value) / self.error, self.df))
        return found


@dataclass(frozen=True, eq=False)
class Draws:
    """Scores of cells (model, method) on tasks; a cell that was not judged is missing (NaN)."""

    cells: tuple[Cell, ...]
    tasks: tuple[str, ...]
    score_MK: Floats
    problems_RMK: Floats
    """Scores with the problems redrawn."""
    seeds_RMK: Floats
    """What redrawn seeds add to them; zeros where no arm has two seeds."""
    n_MK: NDArray[np.int64]
    """Problems with a value."""
    n_seeds_M: NDArray[np.int64]
    n_spare_seeds: int
    """Seeds beyond the first, over all tuned arms; zero: the spread of seeds is not known."""

    @cached_property
    def redrawn(self) -> Floats:
        """Scores with problems and seeds redrawn: `(R, M, K)`."""
        if not self.n_spare_seeds:
            return self.problems_RMK
        return self.problems_RMK + self.seeds_RMK

    def row(self, model: str, method: str) -> int:
        """Where a cell stands."""
        return self.cells.index((model, method))

    def judged(self, model: str, method: str, task: str) -> bool:
        """Whether the cell has a score on `task`."""
        cell = (model, method)
        if cell not in self.cells or task not in self.tasks:
            return False
        return bool(np.isfinite(self.score_MK[self.cells.index(cell), self.tasks.index(task)]))

    def linear(self, weight_MK: Floats) -> Estimate:
        """`sum(weight * score)`; every weighted cell has to be judged."""
        used_MK = weight_MK != 0
        weights = weight_MK[used_MK]

        def total(score_MK: Floats) -> Floats:
            found: Floats = score_MK[..., used_MK] @ weights
            return found

        n_K = np.where(used_MK, self.n_MK, np.iinfo(np.int64).max).min(axis=0)
        heaviest_K = np.abs(weight_MK).max(axis=0)
        floor = sum(2 * (w / (n + 2)) ** 2 for w, n in zip(heaviest_K, n_K, strict=True) if w)
        seeds = total(self.seeds_RMK) if self.n_spare_seeds else np.zeros(1)
        return self._estimate(total, seeds, sqrt(floor), int(n_K.min()))

    def score(self, row: int, share_K: Floats) -> Estimate:
        """The score of one arm, averaged over tasks by `share_K`."""
        weight_MK = np.zeros(self.score_MK.shape)
        weight_MK[row] = share_K
        return self.linear(weight_MK)

    def differences(self, rows: Sequence[int], share_K: Floats) -> Differences:
        """What `linear` gives for every pair of arms, all of them judged on every weighted task.

        `var(a - b) = var a + var b - 2 cov(a, b)`: one covariance matrix does for all pairs.
        """
        used = np.flatnonzero(share_K)
        share, n_arms = share_K[used], len(rows)
        part = np.ix_(np.asarray(rows, dtype=np.intp), used)

        def variance(score_RMK: Floats) -> Floats:
            mean_RM = np.stack([score_RMK[:, row, used] @ share for row in rows], axis=1)
            cov = np.cov(mean_RM, rowvar=False).reshape(n_arms, n_arms)
            own = np.diag(cov)
            found: Floats = np.maximum(0.0, own[:, None] + own[None, :] - 2 * cov)
            return found

        n_MK = self.n_MK[part]
        n_PK = np.minimum(n_MK[:, None, :], n_MK[None, :, :])
        of_problems = variance(self.problems_RMK) + (2 * (share / (n_PK + 2)) ** 2).sum(axis=-1)
        of_seeds = variance(self.seeds_RMK) if self.n_spare_seeds else np.zeros_like(of_problems)
        total = of_problems + of_seeds
        n = np.maximum(1, n_PK.min(axis=-1) - 1)
        df = total**2 / (of_problems**2 / n + of_seeds**2 / max(1, self.n_spare_seeds))
        score_M = self.score_MK[part] @ share
        error = np.maximum(np.sqrt(total), 1e-9)
        return Differences(score_M[:, None] - score_M[None, :], error, df)

    def of(self, statistic: Callable[[Floats], Floats]) -> Estimate:
        """Any smooth `statistic` of scores `(..., M, K)`; redraws without a value are left out."""
        seeds = np.zeros(1)
        if self.n_spare_seeds:
            seeds = statistic(self.redrawn) - statistic(self.problems_RMK)
        moved_MK = self._moved(statistic)
        used_MK = moved_MK > 0
        counted = self.n_MK[used_MK if used_MK.any() else self.n_MK > 0]
        floor = sqrt(2 * float((moved_MK.max(axis=0) ** 2).sum()))
        return self._estimate(statistic, seeds, floor, int(counted.min()))

    def _moved(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """How far one more problem won by each cell on each task moves `statistic`."""
        n_cells = self.score_MK.size
        moved = np.repeat(self.score_MK.reshape(1, -1), n_cells, axis=0)
        moved[np.arange(n_cells), np.arange(n_cells)] += 1 / (self.n_MK.reshape(-1) + 2)
        found = statistic(moved.reshape(n_cells, *self.score_MK.shape)) - statistic(self.score_MK)
        return np.where(np.isfinite(found), np.abs(found), 0.0).reshape(self.score_MK.shape)

    def _estimate(
        self, statistic: Callable[[Floats], Floats], seeds_R: Floats, floor: float, n: int
    ) -> Estimate:
        of_problems = _variance(statistic(self.problems_RMK)) + floor**2
        of_seeds = _variance(seeds_R)
        total = of_problems + of_seeds
        parts = of_problems**2 / max(1, n - 1) + of_seeds**2 / max(1, self.n_spare_seeds)
        df = total**2 / parts if parts else float(max(1, n - 1))
        error = max(sqrt(total), 1e-9)
        return Estimate(float(statistic(self.score_MK)), error, df)


def _variance(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.var(ddof=1)) if len(known) > 1 else 0.0


def draws(units: pd.DataFrame, *, n_redraws: int = N_REDRAWS, seed: int = 0) -> Draws:
    """Redraw what `units` holds: columns `model, method, seed, task, group, value`.

    Equal frames give equal draws, in whatever order their rows stand.
    """
    known = units[units["value"].notna()]
    distinct = known[["model", "method"]].drop_duplicates()
    cells = tuple(
        sorted(zip(distinct["model"].astype(str), distinct["method"].astype(str), strict=True))
    )
    tasks = tuple(sorted(known["task"].astype(str).unique()))
    random = np.random.default_rng(seed)
    shape = (n_redraws, len(cells), len(tasks))
    score, n = np.full(shape[1:], np.nan), np.zeros(shape[1:], dtype=np.int64)
    redrawn = np.full(shape, np.nan)
    per_seed: dict[tuple[int, int], dict[int, float]] = {}
    for together in _sharing(known, tasks):
        here = known[known["task"].isin(together)]
        arms, value_GC, mean_of_seed = _matrix(here)
        mean_C, mean_RC = _means(value_GC, n_redraws, random)
        for place, (model, method, task) in enumerate(arms):
            m, k = cells.index((model, method)), tasks.index(task)
            score[m, k], redrawn[:, m, k] = mean_C[place], mean_RC[:, place]
            n[m, k] = int(np.isfinite(value_GC[:, place]).sum())
            per_seed[m, k] = mean_of_seed[model, method, task]
    tuned = [method != style.BASE for _, method in cells]
    seeds, n_seeds, n_spare = _seeds(per_seed, shape, tuned, random)
    return Draws(cells, tasks, score, redrawn, seeds, n, n_seeds, n_spare)


def _sharing(units: pd.DataFrame, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Tasks in sets, such that tasks of two sets have no problem in common."""
    distinct = units[["task", "group"]].drop_duplicates()
    groups = {
        str(task): set(own["group"].astype(str))
        for task, own in distinct.groupby("task", observed=True)
    }
    sets: list[tuple[set[str], list[str]]] = []
    for task in tasks:
        joined = [found for found in sets if found[0] & groups[task]]
        names = [name for _, own in joined for name in own] + [task]
        problems = groups[task].union(*(found[0] for found in joined))
        sets = [found for found in sets if found not in joined] + [(problems, names)]
    return [tuple(sorted(names)) for _, names in sets]


def _matrix(
    units: pd.DataFrame,
) -> tuple[list[tuple[str, str, str]], Floats, dict[tuple[str, str, str], dict[int, float]]]:
    """Values as groups x (model, method, task), seeds averaged; and the mean of every seed."""
    text = ["model", "method", "task", "group"]
    plain = units.astype(dict.fromkeys(text, str)).astype({"value": np.float64})
    means = plain.groupby(text, sort=True)["value"].mean()
    wide = means.unstack(text[:3]).sort_index(axis=1).sort_index(axis=0)
    heads = [(str(head[0]), str(head[1]), str(head[2])) for head in wide.columns]
    per_seed: dict[tuple[str, str, str], dict[int, float]] = {}
    seeds = plain.groupby([*text[:3], "seed"])["value"].mean().reset_index()
    for row in rows_of(seeds):
        key = row["model"], row["method"], row["task"]
        per_seed.setdefault(key, {})[int(row["seed"])] = float(row["value"])
    return heads, wide.to_numpy(dtype=np.float64), per_seed


def _means(value_GC: Floats, n_redraws: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Column means, and those of redrawn rows. A redraw that hits no value keeps the mean."""
    known_GC = np.isfinite(value_GC)
    filled_GC = np.where(known_GC, value_GC, 0.0)
    whole = bool(known_GC.all())
    mean_C = filled_GC.sum(axis=0) / known_GC.sum(axis=0)
    n = len(value_GC)
    redrawn = np.empty((n_redraws, value_GC.shape[1]))
    step = max(1, ROWS_AT_A_TIME // n)
    for start in range(0, n_redraws, step):
        stop = min(start + step, n_redraws)
        weight_RG = random.multinomial(n, np.full(n, 1 / n), size=stop - start).astype(np.float64)
        above = weight_RG @ filled_GC
        below = np.full_like(above, n) if whole else weight_RG @ known_GC
        with np.errstate(invalid="ignore"):
            redrawn[start:stop] = np.where(below > 0, above / below, mean_C)
    return mean_C, redrawn


def _seeds(
    per_seed: Mapping[tuple[int, int], Mapping[int, float]],
    shape: tuple[int, int, int],
    tuned: Sequence[bool],
    random: np.random.Generator,
) -> tuple[Floats, NDArray[np.int64], int]:
    """Deviations of redrawn seeds from the arm's mean, seeds of each arm, spare seeds."""
    n_redraws, n_cells, n_tasks = shape
    seeds_of: list[set[int]] = [set() for _ in range(n_cells)]
    for (m, _), values in per_seed.items():
        seeds_of[m].update(values)
    n_seeds = np.array([len(found) for found in seeds_of], dtype=np.int64)
    pool = []
    for m, found in enumerate(seeds_of):
        if len(found) < 2 or not tuned[m]:  # the base is one model, however often it was asked
            continue
        wide = sqrt(len(found) / (len(found) - 1))
        for number in sorted(found):
            row = np.zeros(n_tasks)
            for k in range(n_tasks):
                values = per_seed.get((m, k), {})
                if len(values) > 1 and number in values:
                    row[k] = wide * (values[number] - np.mean(list(values.values())))
            pool.append(row)
    n_spare = int((n_seeds[np.asarray(tuned, dtype=np.bool_)] - 1).clip(min=0).sum())
    if not pool:
        return np.broadcast_to(0.0, shape), n_seeds, 0
    added, deviation_PK = np.zeros(shape), np.stack(pool)
    for m, k in enumerate(n_seeds):
        if tuned[m]:
            chosen = random.integers(0, len(pool), size=(n_redraws, int(k)))
            added[:, m] = deviation_PK[chosen].mean(axis=1)
    return added, n_seeds, n_spare


def complete_block(
    rows: Sequence[str], columns: Sequence[str], has: Callable[[str, str], bool], keep: str = ""
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A part of a table without holes: the row or column with most of them goes, again and again.

    `keep` is a row that stays, if it has anything: columns that it lacks go first. Ties: a column
    goes before a row, the later before the earlier.

            t1  t2  t3
        a   x   x   x
        b   x   x   .          t3 has two holes of three: it goes, and no row has to
        c   x   x   .
    """
    kept_rows, kept_columns = list(rows), list(columns)
    if keep in kept_rows and any(has(keep, column) for column in columns):
        kept_columns = [column for column in columns if has(keep, column)]
    while kept_rows and kept_columns:
        holes = [
            (sum(not has(row, column) for column in kept_columns) / len(kept_columns), 0, i, "row")
            for i, row in enumerate(kept_rows)
        ]
        holes += [
            (sum(not has(row, column) for row in kept_rows) / len(kept_rows), 1, i, "column")
            for i, column in enumerate(kept_columns)
        ]
        share, _, place, kind = max(holes)
        if not share:
            break
        del (kept_rows if kind == "row" else kept_columns)[place]
    return tuple(kept_rows), tuple(kept_columns)
