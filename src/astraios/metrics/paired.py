"""Two arms on the same problems: tests, effect sizes, adjusted p-values, and what could be seen.

SciPy is imported where it is needed: a command that computes no statistics must not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from astraios.metrics import N_RESAMPLES, Floats

__all__ = [
    "adjusted",
    "cohens_h",
    "detectable_difference",
    "odds_ratio",
    "paired_effect",
    "permutation_p_values",
]

Adjustment = Literal["holm", "fdr_bh"]

EXACT_PROBLEMS = 13
"""Up to this many problems all changes of signs are tried: 8,192 of them."""
HELD_PROBLEMS = 20
"""Up to this many problems drawn signs are kept for the next call: 1.6 MB each at most."""
POWER = 0.8
"""Chance of seeing a difference that is called detectable."""
LEVEL = 0.05
"""Chance of telling any two apart that are equal."""


def adjusted(p_values: Sequence[float], method: Adjustment = "holm") -> list[float]:
    """P-values that allow for how many there are; missing ones stay missing and are not counted.

    Args:
        p_values: of one family of tests.
        method: `holm` keeps the chance of any false claim at the level (Holm 1979, Scandinavian
            Journal of Statistics 6); `fdr_bh` the share of false claims among all claims (Benjamini
            & Hochberg 1995, JRSS B 57), which is less strict.
    """
    given = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(given), np.nan)
    known = ~np.isnan(given)
    if known.any():
        found[known] = _holm(given[known]) if method == "holm" else _fdr(given[known])
    return [float(value) for value in found]


def _holm(p_values: Floats) -> Floats:
    # By hand, as statsmodels' `multipletests` collects garbage at each call: a third of a second
    # in a large process. The tests compare the two.
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    found = np.empty(n)
    found[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(n, 0, -1)), 1.0)
    return found


def _fdr(p_values: Floats) -> Floats:
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p_values, method="bh"))


def permutation_p_values(
    differences: Floats, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Floats:
    """Two-sided p-value of every column: could its mean be so far from zero if signs were chance?

    If two methods are alike, each problem's difference could as well have the other sign
    (Fisher 1935, The Design of Experiments, section 21). With up to `EXACT_PROBLEMS` rows all signs
    are tried and the p-value is exact; else `n_resamples` draws, the observed one added.

    Args:
        differences: a row a problem, a column a pair of methods.
        n_resamples: draws of signs where there are too many to try.
        seed: of the draws.
    """
    n = len(differences)
    if not n:
        return np.full(differences.shape[1], np.nan)
    observed = np.abs(differences.sum(0))
    slack = 1e-9 * np.abs(differences).max(initial=0.0) * n  # equal sums differ by rounding
    if n <= EXACT_PROBLEMS:
        return np.asarray((np.abs(_all_signs(n) @ differences) >= observed - slack).mean(0))
    n_beyond = np.zeros(differences.shape[1])
    for signs in (_held if n <= HELD_PROBLEMS else _signs)(n, n_resamples, seed):
        n_beyond += (np.abs(signs @ differences) >= observed - slack).sum(0)
    return np.asarray((n_beyond + 1) / (n_resamples + 1))


@lru_cache(maxsize=EXACT_PROBLEMS)
def _all_signs(n: int) -> Floats:
    return np.asarray(1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1))


@lru_cache(maxsize=HELD_PROBLEMS)
def _held(n: int, n_resamples: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_signs(n, n_resamples, seed))


def _signs(n: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    random = np.random.default_rng(seed)
    rows = max(1, (1 << 20) // n)
    for start in range(0, n_resamples, rows):
        size = (min(rows, n_resamples - start), n)
        yield np.asarray(1.0 - 2.0 * random.integers(0, 2, size=size, dtype=np.int8))


def cohens_h(a: float, b: float) -> float:
    """`2 asin sqrt a - 2 asin sqrt b`: a difference of two shares that means the same everywhere.

    Cohen 1988, Statistical Power Analysis, chapter 6: 0.2 is small, 0.5 medium, 0.8 large.
    """
    return float(2 * (np.arcsin(np.sqrt(_share(a))) - np.arcsin(np.sqrt(_share(b)))))


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def paired_effect(differences: Floats) -> float:
    """Mean of the differences in units of their standard deviation (Cohen's d_z).

    Not a number where there are fewer than two, or all are equal.
    """
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / spread if spread > 1e-12 else float("nan")


def odds_ratio(a: float, b: float) -> float:
    """Odds of `a` over odds of `b`; infinite or zero at the ends, not a number where both are."""
    above, below = a * (1 - b), b * (1 - a)
    if below > 0:
        return above / below
    return float("inf") if above > 0 else float("nan")


def detectable_difference(
    spread: float, n: int, *, level: float = LEVEL, power: float = POWER
) -> float:
    """The smallest true difference that a paired test of `n` problems finds with chance `power`.

    `(t(1 - level / 2) + t(power)) sd / sqrt(n)`, with quantiles of Student's t of `n - 1` degrees
    of freedom: the usual approximation of the power of a paired t-test (Bloom 1995, Evaluation
    Review 19; for benchmarks of language models see Card et al. 2020, arXiv:2010.06595). Not a
    number for fewer than two problems.

    Args:
        spread: standard deviation of the differences between problems.
        n: problems.
        level: two-sided; divided by the number of comparisons it allows for all of them.
        power: chance to find a difference of this size.
    """
    if n < 2 or np.isnan(spread):
        return float("nan")
    return spread * _quantiles(n, level, power) / float(np.sqrt(n))


@lru_cache(maxsize=4096)
def _quantiles(n: int, level: float, power: float) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - level / 2, n - 1) + t.ppf(power, n - 1))
