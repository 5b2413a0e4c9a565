"""How good, and how sure: intervals and paired differences from one number a group.

The unit of chance is the *group*: a problem with all its variants. Samples of one problem, seeds of
one method and variants of one prompt are averaged (or, for robustness, taken at their worst) within
the group before anything is resampled, because they tell nothing new about other problems.
Intervals are 95 % percentile bootstraps: over groups where a method was trained with one seed, over
groups and seeds, crossed, where it was trained with several (`metrics.seeded_means`).

Differences are paired: both methods are resampled on the same groups. P-values of all pairs of
methods on one model and task are adjusted together (Holm 1979), which stays valid for the pair that
looks best after the fact. Where fewer than `FEW` groups differ the bootstrap finds differences too
easily; there the p-value is that of a test that changes signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astraios.analysis import style
from astraios.analysis.reading import ALL
from astraios.metrics import Floats, Interval, interval, seeded_means, sign_p_value
from astraios.metrics.paired import (
    LEVEL,
    adjusted,
    cohens_h,
    odds_ratio,
    paired_effect,
    permutation_p_values,
)

__all__ = ["ALL", "FEW", "LEVEL", "Cell", "cells", "difference", "holm", "pairs", "pass_rates",
           "rates", "units"]  # fmt: skip

FEW = 20
"""Where fewer groups differ, p-values come from changes of signs: those on which both do alike say
nothing of who is ahead, however many there are."""
ALIKE = 1e-12
"""Mean values over seeds that lie closer are equal, but for rounding."""

Mask = NDArray[np.bool_]
NAN = float("nan")
RATES = ("value", "low", "high", "n", "n_seeds", "seed_low", "seed_high")
PAIRS = (
    "model", "task", "a", "b", "value", "low", "high", "p_value", "n", "p_holm", "n_pairs",
    "p_bh", "test", "effect", "effect_paired", "odds_ratio", "spread",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The values of some methods on the groups of one model and task (and slice, ...)."""

    key: tuple[Any, ...]
    groups: tuple[str, ...]
    """Sorted by name."""
    arms: Mapping[str, Floats]
    """Method -> a row a seed, a column a group; NaN where there is no value."""
    seeds: Mapping[str, tuple[int, ...]]
    """Method -> the seeds of its rows."""

    def on(self, groups: Sequence[str], method: str, seeds: Sequence[int]) -> Floats:
        """What `method` has on these groups with these seeds, in their order; NaN for no value."""
        places = {group: place for place, group in enumerate(self.groups)}
        arm = self.arms[method][[self.seeds[method].index(seed) for seed in seeds]]
        padded = np.hstack([arm, np.full((len(arm), 1), NAN)])
        return padded[:, [places.get(group, -1) for group in groups]]

    def means(self, method: str) -> Floats:
        """Mean over the seeds, one a group; NaN where no seed has a value."""
        return seed_means(self.arms[method])

    def known(self, method: str) -> Mask:
        """Which groups have a value of some seed."""
        return known_groups(self.arms[method])


def known_groups(arm: Floats) -> Mask:
    """Which columns have a value in some row."""
    return np.asarray(np.isfinite(arm).any(axis=0))


def seed_means(arm: Floats) -> Floats:
    """Mean over the rows of what is known; NaN in a column without any."""
    known = np.isfinite(arm)
    n = known.sum(0)
    sums = np.where(known, arm, 0.0).sum(0)
    return np.where(n > 0, sums / np.maximum(n, 1), NAN)


def cells(units: pd.DataFrame, by: Sequence[str]) -> Iterator[Cell]:
    """`units` (columns `by`, `method, seed, group, value`) as arrays, a cell for each of `by`."""
    for key, rows in units.groupby(list(by), observed=True, sort=False):
        groups, names = pd.factorize(rows["group"], sort=True)
        methods, titles = pd.factorize(rows["method"])
        values = rows["value"].to_numpy(dtype="float64")
        seeds = rows["seed"].to_numpy()
        arms, seeds_of = {}, {}
        for place, method in enumerate(titles):
            own = methods == place
            which, known_seeds = pd.factorize(seeds[own], sort=True)
            seeds_of[str(method)] = tuple(map(int, known_seeds))
            arm = np.full((len(known_seeds), len(names)), NAN)
            arm[which, groups[own]] = values[own]
            arms[str(method)] = arm
        yield Cell(key, tuple(map(str, names)), arms, seeds_of)


def units(problems: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean rate of every arm, task, group (and `by`) over the problems of the group."""
    keys = ["model", "method", "task", *by, "seed", "group"]
    means = problems.groupby(keys, observed=True, sort=False)["rate"].mean()
    return means.rename("value").reset_index()


def pass_rates(problems: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """pass@1 per model, method and task (and `by`), with its interval.

    Args:
        problems: counts a problem; see `tallies.problems`.
        by: further columns of `problems`, such as its slice.

    Returns:
        The columns of `rates`, and `n_samples, n_faults`.
    """
    keys = ["model", "method", "task", *by]
    found = rates(units(problems, by), ("model", "task", *by))
    sums = problems.groupby(keys, observed=True, sort=False)[["n", "n_faults"]].sum()
    sums = sums.rename(columns={"n": "n_samples"}).reset_index()
    found = sums.merge(found, on=keys, how="left", validate="one_to_one")
    return found[[*keys, *RATES, "n_samples", "n_faults"]]


def rates(units: pd.DataFrame, by: Sequence[str] = ("model", "task")) -> pd.DataFrame:
    """Mean value of every method of every cell, with its interval.

    Returns:
        Columns `by`, `method`, `value, low, high` (fractions), `n` (groups), `n_seeds`, `seed_low,
        seed_high` (the lowest and highest seed). Without any value they are NaN and `n` is 0.
    """
    rows: list[tuple[Any, ...]] = []
    for cell in cells(units, by):
        found = dict(_resampled(cell, ((method,) for method in cell.arms)))
        for method, arm in cell.arms.items():
            known = cell.known(method)
            n = int(known.sum())
            ends = Interval(NAN, NAN, NAN)
            if n:
                ends = share_interval(found[method,][:, 0], float(cell.means(method)[known].mean()))
            per_seed = seed_means(arm.T)
            judged = per_seed[np.isfinite(per_seed)]
            spread = (float(judged.min()), float(judged.max())) if n else (NAN, NAN)
            row = (*cell.key, method, ends.value, ends.low, ends.high, n, len(arm), *spread)
            rows.append(row)
    return pd.DataFrame(rows, columns=pd.Index([*by, "method", *RATES]))


def pairs(units: pd.DataFrame) -> pd.DataFrame:
    """Every pair of methods on every model and task: `a` minus `b` on the groups both have.

    Returns:
        Columns `model, task, a, b, value, low, high, p_value, n, p_holm, n_pairs`, and

        n_pairs         those with a group in common, over which p-values are adjusted
        p_bh            adjusted by Benjamini and Hochberg instead of Holm
        test            what `p_value` comes from: "bootstrap" or "permutation"
        effect          Cohen's h of the two means
        effect_paired   Cohen's d_z: mean over standard deviation of the differences
        odds_ratio      of the two means
        spread          standard deviation of the differences between groups
    """
    rows: list[dict[str, Any]] = []
    for cell in cells(units, ("model", "task")):
        names = list(combinations(style.order(cell.arms), 2))
        resampled = dict(_resampled(cell, names))
        chance = _by_signs(cell, names)
        found = [_pair(cell, pair, resampled.get(pair), chance.get(pair, NAN)) for pair in names]
        raw = [row["p_value"] for row in found]
        n_pairs = int(np.isfinite(raw).sum())
        for row, holm, fdr in zip(found, adjusted(raw), adjusted(raw, "fdr_bh"), strict=True):
            rows.append({**row, "p_holm": holm, "p_bh": fdr, "n_pairs": n_pairs})
    return pd.DataFrame(rows, columns=pd.Index(PAIRS))


def share_interval(drawn: Floats, value: float) -> Interval:
    """Shares lie between 0 and 1; that of a problem over widened draws of seeds need not."""
    return interval(np.clip(drawn, 0, 1), value)


def _pair(
    cell: Cell, pair: tuple[str, str], resampled: Floats | None, by_signs: float
) -> dict[str, Any]:
    a, b = pair
    row: dict[str, Any] = {"model": cell.key[0], "task": cell.key[1], "a": a, "b": b}
    both = cell.known(a) & cell.known(b)
    row["n"] = n = int(both.sum())
    if resampled is None:
        names = ("value", "low", "high", "p_value", "effect", "effect_paired", "odds_ratio")
        return {**row, **dict.fromkeys((*names, "spread"), NAN), "test": ""}
    left, right = cell.means(a)[both], cell.means(b)[both]
    differences = left - right
    drawn = resampled[:, 0] - resampled[:, 1]
    ends = interval(drawn, float(differences.mean()))
    p_value = sign_p_value(drawn)
    if few := not np.isnan(by_signs):
        # Signs are those of these trained models; what other seeds may do only resamples know.
        several = max(len(cell.arms[a]), len(cell.arms[b])) > 1
        p_value = max(by_signs, p_value) if several else by_signs
    return {
        **row,
        "value": ends.value,
        "low": ends.low,
        "high": ends.high,
        "p_value": p_value,
        "test": "permutation" if few else "bootstrap",
        "effect": cohens_h(float(left.mean()), float(right.mean())),
        "effect_paired": paired_effect(differences),
        "odds_ratio": odds_ratio(float(left.mean()), float(right.mean())),
        "spread": float(differences.std(ddof=1)) if n > 1 else NAN,
    }


def _resampled(
    cell: Cell, wanted: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Floats]]:
    """Resampled means of each set of methods on the groups that all of the set have.

    Sets with the same groups are resampled at once; sets without a group are left out.
    """
    alike: dict[bytes, list[tuple[str, ...]]] = {}
    for methods in wanted:
        both = np.logical_and.reduce([cell.known(method) for method in methods])
        alike.setdefault(both.tobytes(), []).append(methods)
    for mask, sets in alike.items():
        both = np.frombuffer(mask, dtype=np.bool_)
        if not both.any():
            continue
        names = list(dict.fromkeys(method for methods in sets for method in methods))
        means = seeded_means([(name, cell.arms[name][:, both]) for name in names])
        for methods in sets:
            yield methods, means[:, [names.index(method) for method in methods]]


def _by_signs(cell: Cell, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """P-values of pairs that differ on few groups."""
    found = {}
    means = {method: cell.means(method) for method in cell.arms}
    for a, b in names:
        differences = means[a] - means[b]
        apart = differences[np.abs(differences) > ALIKE]  # not so for NaN
        if np.isfinite(differences).any() and len(apart) < FEW:
            found[a, b] = float(permutation_p_values(apart[:, None])[0]) if len(apart) else 1.0
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false claim at the level (Holm 1979).

    A missing p-value stays missing and is not counted.

        raw        0.01  0.04  0.03
        adjusted   0.03  0.06  0.06      3 x 0.01, 2 x 0.03, then no less than the one before
    """
    return adjusted(p_values, "holm")


def difference(pairs: pd.DataFrame, model: str, task: str, a: str, b: str) -> pd.Series | None:
    """`a` minus `b` out of `pairs`, whichever way round it is stored; None if there is none."""
    here = pairs[(pairs["model"] == model) & (pairs["task"] == task)]
    found = here[(here["a"] == a) & (here["b"] == b)]
    if len(found):
        return found.iloc[0]
    found = here[(here["a"] == b) & (here["b"] == a)]
    if not len(found):
        return None
    row = found.iloc[0].copy()
    row["a"], row["b"] = a, b
    row["value"], row["low"], row["high"] = -row["value"], -row["high"], -row["low"]
    row["effect"], row["effect_paired"] = -row["effect"], -row["effect_paired"]
    row["odds_ratio"] = 1 / row["odds_ratio"] if row["odds_ratio"] != 0 else float("inf")
    return row
