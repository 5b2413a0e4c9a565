"""Estimates for users who may try several samples of a problem."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Measure
from astraios.metrics import Floats, pass_at_k

KS = (1, 10, 100)


def at_each_k(name: str, judged: Floats, passed: Floats) -> tuple[Measure, ...]:
    """`name@k` for each of `KS` that no problem has too few samples for.

    Unbiased estimates (Chen et al. 2021, eq. 1); a problem without a judged sample does not count.
    """
    n, c = judged.astype(np.int64), passed.astype(np.int64)
    counted = n > 0
    fewest = int(n[counted].min()) if counted.any() else 0
    found = []
    for k in KS:
        if k <= fewest:
            values = np.full(len(n), np.nan)
            values[counted] = pass_at_k(n[counted], c[counted], k)
            found.append(Measure.average(f"{name}@{k}", values))
    return tuple(found)
