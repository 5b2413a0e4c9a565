"""Robust pass@k: completions that pass for every variant of a problem's prompt."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.metrics import pass_at_k

KS = (1, 10, 100)


def measures(judged: Judged) -> tuple[Measure, ...]:
    """pass@k with robust completions in place of those that pass (ReCode, section 4.1)."""
    if not len(judged.robust):
        return ()
    n, passed = judged.robust.T.astype(np.int64)
    counted = n > 0
    fewest = int(n[counted].min()) if counted.any() else 0
    found = []
    for k in KS:
        if k <= fewest:
            values = np.full(len(n), np.nan)
            values[counted] = pass_at_k(n[counted], passed[counted], k)
            found.append(Measure.average(f"robust-pass@{k}", values))
    return tuple(found)


metric = Metric("Robust pass@k", lambda kind: kind == "robust", measures)
