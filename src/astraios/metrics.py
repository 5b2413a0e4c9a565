"""Pure numbers: pass@k, and how sure a mean or a difference of means is.

Problems are the unit that is resampled, everywhere: a benchmark is a sample of the problems there
could be, while many completions of one problem are no new evidence about it. Nothing here reads a
file, and equal arguments give equal results on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Difference",
    "Interval",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_ratio",
    "pass_at_k",
]

Floats = NDArray[np.float64]

DRAWS_AT_A_TIME = 1 << 20
"""Bound on the resampled values held in memory at once: 16 MiB of indices and values."""


@dataclass(frozen=True)
class Interval:
    """A value with the interval it lies in; `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A paired difference with its interval; `low <= value <= high`."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided: how often a resampled difference lies on the other side of zero, doubled."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of `k` samples, drawn without replacement, passes.

    Unbiased estimator `1 - C(n - c, k) / C(n, k)` of Chen et al. 2021 (arXiv:2107.03374), eq. 1.

    Args:
        n: samples judged for the problem.
        c: of those, samples that passed.
        k: samples the user may try; needs `k <= n`.

    Returns:
        Probability in [0, 1].

    Raises:
        ValueError: if the numbers do not fit together.
    """
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


def bootstrap_difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    *,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Mean of `a - b` with its percentile bootstrap interval, paired over problems.

    `a[i]` and `b[i]` belong to the same problem: both are drawn together, so what makes a problem
    hard for both cancels. The p-value counts the observed sample among the resampled ones
    (Davison & Hinkley 1997, eq. 4.11), so it is never zero; it is one where `a` equals `b`.

    Raises:
        ValueError: if the lengths differ, there are no values, or one is not finite.
    """
    left, right = _numbers(a, "a"), _numbers(b, "b")
    if left.shape != right.shape:
        raise ValueError(
            f"paired values need equal lengths, got {len(left)} and {len(right)}; "
            "give one value for each problem, in the same order"
        )
    array = left - right
    value = float(array.mean())
    means = _means(array, n_resamples, seed)
    low, high = _percentiles(means, confidence)
    n_beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (n_beyond + 1) / (n_resamples + 1))
    return Difference(value, min(low, value), max(high, value), p_value)


def _numbers(values: Sequence[float] | Floats, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: need a list of at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: number {int(np.argmin(np.isfinite(array)))} is not finite")
    return array


def _means(array: Floats, n_resamples: int, seed: int) -> Floats:
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    random = np.random.default_rng(seed)
    n = len(array)
    rows = max(1, DRAWS_AT_A_TIME // n)
    means = np.empty(n_resamples)
    for start in range(0, n_resamples, rows):
        stop = min(start + rows, n_resamples)
        drawn = random.integers(0, n, size=(stop - start, n))
        means[start:stop] = array[drawn].mean(axis=1)
    return means


def _percentiles(means: Floats, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)
