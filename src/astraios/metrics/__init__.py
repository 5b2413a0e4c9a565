"""Pure numbers: pass@k, and how sure a mean or a difference of means is.

    metrics               pass@k and the bootstrap over problems and seeds
    metrics.paired        tests, effect sizes and power of paired differences; adjusted p-values
    metrics.association   correlations with intervals
    metrics.confusion     numbers of yes/no answers

Problems are the unit that is resampled, everywhere: a benchmark is a sample of the problems there
could be, while many completions of one problem are no new evidence about it. Nothing here reads a
file, and equal arguments give equal results on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import overload
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Interval",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_ratio",
    "interval",
    "pass_at_k",
    "seeded_means",
    "sign_p_value",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_RESAMPLES = 10_000
CONFIDENCE = 0.95

DRAWS_AT_A_TIME = 1 << 20
"""Bound on the resampled values held in memory at once: 16 MiB of indices and values."""
HELD = 1 << 25
"""Draws of one number of problems that are kept for the next call: at most 32 MiB."""
IN_CACHE = 1 << 16
"""Weights that are multiplied at a time: 512 KiB, which stay in a processor's cache."""
MANY_PROBLEMS = 5_000
"""From this many problems on, equal ones are drawn together."""
SEED_DRAWS = 256
"""Most draws of seeds of one arm."""


@dataclass(frozen=True)
class Interval:
    """A value with the interval it lies in; `low <= value <= high`."""

    value: float
    low: float
    high: float


@overload
def pass_at_k(n: int, c: int, k: int) -> float:
    """Of one problem."""


@overload
def pass_at_k(n: Ints, c: Ints, k: int | Ints) -> Floats:
    """Of many."""


def pass_at_k(n: int | Ints, c: int | Ints, k: int | Ints) -> float | Floats:
    """Chance that at least one of `k` samples, drawn without replacement, passes.

    Unbiased estimator `1 - C(n - c, k) / C(n, k)` of Chen et al. 2021 (arXiv:2107.03374), eq. 1.

    Args:
        n: samples judged for the problem, or for each of many.
        c: of those, samples that passed.
        k: samples the user may try; needs `k <= n`.

    Returns:
        Probability in [0, 1], or an array of them.

    Raises:
        ValueError: if the numbers do not fit together.
    """
    given = np.stack(np.broadcast_arrays(n, c, k), axis=-1)
    if given.ndim == 1:
        return _pass_at_k(*map(int, given))
    # Problems have few distinct counts, and whole numbers are exact however large.
    distinct, places = np.unique(given.reshape(-1, 3), axis=0, return_inverse=True)
    values = np.array([_pass_at_k(*map(int, row)) for row in distinct], dtype=np.float64)
    return np.asarray(values[places].reshape(given.shape[:-1]), dtype=np.float64)


def _pass_at_k(n: int, c: int, k: int) -> float:
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"need 0 <= c <= n and 1 <= k <= n, got n={n} c={c} k={k}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def bootstrap_mean(
    values: Sequence[float] | Floats,
    *,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Mean of `values`, one a problem, with its percentile bootstrap interval.

    Efron & Tibshirani 1993, section 13.3. With `values=[0, 1]` a resampled mean is 0, 1/2 or 1
    with chances 1/4, 1/2, 1/4, so the 95 % interval is [0, 1].

    Raises:
        ValueError: if there are no values, one is not finite, or an option is out of range.
    """
    array = _numbers(values, "values")
    value = float(array.mean())
    low, high = _percentiles(_means(array, n_resamples, seed), confidence)
    return Interval(value, min(low, value), max(high, value))


def bootstrap_ratio(
    parts: Sequence[float] | Floats,
    wholes: Sequence[float] | Floats,
    *,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """`sum(parts) / sum(wholes)`, one pair a problem, with its percentile bootstrap interval.

    For rates of samples pooled over problems that have different numbers of them. A resample whose
    wholes sum to zero says nothing and is left out.

    Raises:
        ValueError: if the lengths differ, the wholes sum to zero, or an option is out of range.
    """
    above, below = _numbers(parts, "parts"), _numbers(wholes, "wholes")
    if above.shape != below.shape:
        raise ValueError(f"need as many parts as wholes, got {len(above)} and {len(below)}")
    if not below.sum():
        raise ValueError("the wholes sum to zero, so there is no ratio")
    value = float(above.sum() / below.sum())
    # Equal seeds draw equal problems, so both means of a resample are of the same ones.
    top, bottom = _means(above, n_resamples, seed), _means(below, n_resamples, seed)
    low, high = _percentiles(top[bottom > 0] / bottom[bottom > 0], confidence)
    return Interval(value, min(low, value), max(high, value))


def _numbers(values: Sequence[float] | Floats, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: need a list of at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: number {int(np.argmin(np.isfinite(array)))} is not finite")
    return array


def _means(array: Floats, n_resamples: int, seed: int) -> Floats:
    return np.asarray(bootstrap_means(array[:, None], n_resamples=n_resamples, seed=seed)[:, 0])


def bootstrap_means(values: Floats, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Floats:
    """Means of every column of `values` over the same resampled rows.

    Args:
        values: a row a problem, a column each thing that is measured; all finite.
        n_resamples: how often problems are drawn.
        seed: equal seeds draw equal problems for equal numbers of rows.

    Returns:
        A row a resample, a column a column of `values`. Means are rounded at the thirteenth digit
        of the largest value, so that ties are ties on every machine.

    Raises:
        ValueError: if there are no rows, a value is not finite, or `n_resamples` is below one.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError("values: need at least one row, and finite numbers")
    means = np.empty((n_resamples, values.shape[1]))
    start = 0
    rows, draws = _weighted(values, n_resamples, seed)
    for weights in draws:
        means[start : start + len(weights)] = weights @ rows
        start += len(weights)
    means /= len(values)
    largest = np.abs(values).max(initial=0.0)
    scale = 2.0 ** np.ceil(np.log2(largest)) if largest > 1e-300 else 1.0
    return np.asarray(np.round(means / scale, 13) * scale)


def _weighted(values: Floats, n_resamples: int, seed: int) -> tuple[Floats, Iterator[Floats]]:
    """Distinct rows, and how often each of them is drawn, some resamples at a time."""
    n = len(values)
    if n <= MANY_PROBLEMS:
        return values, _draws(n, n_resamples, seed)
    # Of many thousand problems most have equal values: which of them is drawn does not matter.
    rows, sizes = np.unique(values, axis=0, return_counts=True)
    return rows, _drawn_kinds(sizes, n_resamples, seed)


def _draws(n: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    held = n * n_resamples <= HELD
    rows = max(1, IN_CACHE // n)
    for counts in _held(n, n_resamples, seed) if held else _counted(n, n_resamples, seed):
        for start in range(0, len(counts), rows):
            yield counts[start : start + rows].astype(np.float64)


@lru_cache(maxsize=4)
def _held(n: int, n_resamples: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(_counted(n, n_resamples, seed))


def _counted(n: int, n_resamples: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """How often each of `n` problems is drawn; that it is drawn 256 times never happens."""
    random = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_A_TIME // n)
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        drawn = random.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        yield np.minimum(counts, 255).astype(np.uint8)


def _drawn_kinds(sizes: Ints, n_resamples: int, seed: int) -> Iterator[Floats]:
    random = np.random.default_rng(seed)
    n = int(sizes.sum())
    rows = max(1, DRAWS_AT_A_TIME // len(sizes))
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        yield random.multinomial(n, sizes / n, size=size).astype(np.float64)


def seeded_means(
    arms: Sequence[tuple[str, Floats]], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Floats:
    """Resampled means of arms that were trained with several seeds and judged on the same problems.

    Problems and seeds are crossed: each resample draws problems, the same for all arms, and for
    each arm, by itself, as many of its seeds as there are (the "pigeonhole" bootstrap of Owen 2007,
    doi:10.1214/07-AOAS122). A problem counts with its mean over the drawn seeds; where none of
    them judged it, over all. How `k` drawn seeds differ from the mean of all is widened by
    `sqrt(k / (k - 1))`: they are drawn from the few that mean was made of, and would else vary too
    little, by a half for two seeds. An arm with one seed is resampled over problems alone, for what
    another seed would change cannot be known.

    Args:
        arms: a name, and a row a seed, a column a problem; NaN where a seed has no value, but every
            problem has one of some seed. Equal names draw equal seeds, whatever stands beside them.
        n_resamples: how often seeds and problems are drawn.
        seed: of the random numbers.

    Returns:
        A row a resample, a column an arm.
    """
    columns: list[Floats] = []
    picks: list[Ints] = []
    for name, arm in arms:
        weights, pick = _seed_draws(len(arm), n_resamples, (seed, crc32(name.encode())))
        picks.append(pick + sum(len(column) for column in columns))
        columns.append(_over_seeds(arm, weights))
    means = bootstrap_means(np.concatenate(columns).T, n_resamples=n_resamples, seed=seed)
    every = np.arange(n_resamples)
    return np.stack([means[every, pick] for pick in picks], axis=1)


def _seed_draws(n_seeds: int, n_resamples: int, seed: tuple[int, int]) -> tuple[Floats, Ints]:
    """Distinct draws of seeds as weights, and which of them each resample takes."""
    if n_seeds == 1:
        return np.ones((1, 1)), np.zeros(n_resamples, dtype=np.int64)
    random = np.random.default_rng((*seed, n_seeds))
    # A few hundred draws of seeds tell as much as ten thousand, and each costs a column.
    n_draws = min(n_resamples, SEED_DRAWS)
    drawn = random.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
    if len(np.unique(drawn, axis=0)) > n_draws:
        drawn = drawn[np.arange(n_resamples) % n_draws]
    kinds, pick = np.unique(drawn, axis=0, return_inverse=True)
    return kinds.astype(np.float64), pick.reshape(-1).astype(np.int64)


def _over_seeds(arm: Floats, weights: Floats) -> Floats:
    """Mean of every problem over the seeds, for each row of `weights`."""
    known = np.isfinite(arm)
    sums, counts = weights @ np.where(known, arm, 0.0), weights @ known
    plain = np.where(known, arm, 0.0).sum(0) / known.sum(0)
    drawn = np.where(counts > 0, sums / np.maximum(counts, 1), plain)
    k = len(arm)
    return np.asarray(plain + (drawn - plain) * np.sqrt(k / (k - 1))) if k > 1 else drawn


def interval(resampled: Floats, value: float, confidence: float = CONFIDENCE) -> Interval:
    """`value` with the percentile interval of its resampled values."""
    low, high = _percentiles(resampled, confidence)
    return Interval(value, min(low, value), max(high, value))


def sign_p_value(resampled: Floats) -> float:
    """Two-sided: how often a resampled difference lies on the other side of zero, doubled.

    The observed sample counts among the resampled ones (Davison & Hinkley 1997, eq. 4.11).
    """
    n_beyond = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    return min(1.0, 2 * (n_beyond + 1) / (len(resampled) + 1))


def _percentiles(means: Floats, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)
