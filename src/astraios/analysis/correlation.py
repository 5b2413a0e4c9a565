"""How closely two columns of few numbers go together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from astraios.analysis.tables import Range

Z_95 = 1.959963984540054
"""97.5 % point of the normal distribution."""


def pearson(x: Sequence[float], y: Sequence[float]) -> Range | None:
    """Linear correlation with Fisher's 95 % interval; None where it is not defined.

    A perfect correlation has no such interval: its ends are not numbers.

    `tanh(atanh r -+ 1.96 / sqrt(n - 3))`, Fisher 1921; needs four points that are not all equal.
    """
    return _interval(x, y, lambda r: 1.0)


def spearman(x: Sequence[float], y: Sequence[float]) -> Range | None:
    """Rank correlation; ties get their mean rank.

    Interval by Bonett and Wright 2000 (Psychometrika 65): Fisher's, with the variance times
    `1 + r^2 / 2`.
    """
    ranks_x, ranks_y = (pd.Series(list(values)).rank().tolist() for values in (x, y))
    return _interval(ranks_x, ranks_y, lambda r: 1 + r * r / 2)


def _interval(
    x: Sequence[float], y: Sequence[float], variance: Callable[[float], float]
) -> Range | None:
    n = len(x)
    if n < 4 or np.std(x) == 0 or np.std(y) == 0:
        return None
    r = float(np.corrcoef(x, y)[0, 1])
    if abs(r) >= 1 - 1e-12:  # atanh has no value there
        return Range(math.copysign(1.0, r), math.nan, math.nan)
    wide = Z_95 * math.sqrt(variance(r) / (n - 3))
    return Range(r, math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide))
