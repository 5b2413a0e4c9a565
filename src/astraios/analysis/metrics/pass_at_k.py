"""pass@k for k = 1, 10 and 100, as far as every problem has that many samples."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.metrics import pass_at_k

KS = (1, 10, 100)


def measures(judged: Judged) -> tuple[Measure, ...]:
    """Unbiased estimates (Chen et al. 2021, eq. 1); a problem with faults only does not count."""
    n, passed = judged.n_counted.astype(np.int64), judged.n_passed.astype(np.int64)
    counted = n > 0
    fewest = int(n[counted].min()) if counted.any() else 0
    found = []
    for k in KS:
        if k <= fewest:
            values = np.full(len(n), np.nan)
            values[counted] = pass_at_k(n[counted], passed[counted], k)
            found.append(Measure.average(f"pass@{k}", values))
    return tuple(found)


metric = Metric("pass@k", lambda kind: kind == "pass", measures)
