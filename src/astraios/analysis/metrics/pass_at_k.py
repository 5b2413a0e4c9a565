"""pass@k for k = 1, 10 and 100, as far as every problem has that many samples."""

from __future__ import annotations

from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.analysis.metrics._samples import at_each_k


def measures(judged: Judged) -> tuple[Measure, ...]:
    """Of all samples but faults."""
    return at_each_k("pass", judged.n_counted, judged.n_passed)


metric = Metric("pass@k", lambda kind: kind == "pass", measures)
