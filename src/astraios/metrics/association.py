"""How closely two columns go together: Pearson, Spearman and Kendall with 95 % intervals.

SciPy computes the coefficients, and Fisher's interval of the first. The others have no exact
interval; theirs is Fisher's with the variance of Bonett & Wright 2000 (Psychometrika 65, 23-28).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from astraios.metrics import Floats

__all__ = ["KINDS", "Correlation", "kendall", "pearson", "spearman"]

Z_95 = 1.959963984540054
"""97.5 % point of the normal distribution."""
FEWEST = 4
"""Points below which no correlation is given: three lie close to some line by chance."""
EXACT_POINTS = 7
"""Points up to which a rank correlation is compared with all 5,040 orders."""


@dataclass(frozen=True)
class Correlation:
    """A coefficient in [-1, 1] with its interval; ends that are not numbers mean there is none."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided, that there is none."""
    n: int


def pearson(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> Correlation | None:
    """Linear correlation, with Fisher's interval `tanh(atanh r -+ 1.96 / sqrt(n - 3))` (1921).

    None where it is not defined: with fewer than four points, or a constant column. Points of which
    a part is missing are left out. A perfect correlation has no interval.
    """
    from scipy import stats

    points = _points(x, y)
    if points is None:
        return None
    found = stats.pearsonr(*points)
    r, n = float(found.statistic), len(points[0])
    if _perfect(r):
        return Correlation(math.copysign(1.0, r), math.nan, math.nan, float(found.pvalue), n)
    ends = found.confidence_interval(0.95)
    return Correlation(r, float(ends.low), float(ends.high), float(found.pvalue), n)


def spearman(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> Correlation | None:
    """Rank correlation; ties get their mean rank. Variance `(1 + r^2 / 2) / (n - 3)`.

    With up to `EXACT_POINTS` points the p-value is the share of all orders that correlate as
    closely; SciPy's, by Student's t, would be zero for any four points in order.
    """
    from scipy import stats

    points = _points(x, y)
    if points is None:
        return None
    found, n = stats.spearmanr(*points), len(points[0])
    r, p_value = float(found.statistic), float(found.pvalue)
    if n <= EXACT_POINTS:
        p_value = _share_of_orders(stats.rankdata(points[0]), stats.rankdata(points[1]))
    return _ranked(r, p_value, n, (1 + r * r / 2) / (n - 3))


def kendall(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> Correlation | None:
    """Agreement of pairs, tau-b, which allows for ties. Variance `0.437 / (n - 4)`."""
    from scipy import stats

    points = _points(x, y)
    if points is None:
        return None
    found, n = stats.kendalltau(*points), len(points[0])
    variance = 0.437 / (n - 4) if n > 4 else math.nan
    return _ranked(float(found.statistic), float(found.pvalue), n, variance)


KINDS = MappingProxyType({"pearson": pearson, "spearman": spearman, "kendall": kendall})
"""Name -> the function that computes it."""


def _points(
    x: Sequence[float] | Floats, y: Sequence[float] | Floats
) -> tuple[Floats, Floats] | None:
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"need columns of one length, got shapes {left.shape} and {right.shape}")
    known = np.isfinite(left) & np.isfinite(right)
    left, right = left[known], right[known]
    if len(left) < FEWEST or _constant(left) or _constant(right):
        return None
    return left, right


def _constant(values: Floats) -> bool:
    """Whether all values are equal, up to what rounding leaves of equal sums."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _perfect(r: float) -> bool:
    return abs(r) >= 1 - 1e-12  # atanh has no value there


def _share_of_orders(a: Floats, b: Floats) -> float:
    """Share of the orders of `b` whose products with `a` lie as far from their mean."""
    a = a - a.mean()
    sums = b[_orders(len(b))] @ a
    return float((np.abs(sums) >= abs(float(b @ a)) - 1e-9).mean())


@cache
def _orders(n: int) -> NDArray[np.intp]:
    return np.array(list(permutations(range(n))), dtype=np.intp)


def _ranked(r: float, p_value: float, n: int, variance: float) -> Correlation:
    if _perfect(r):
        return Correlation(math.copysign(1.0, r), math.nan, math.nan, p_value, n)
    wide = Z_95 * math.sqrt(variance)
    low, high = math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide)
    return Correlation(r, low, high, p_value, n)
