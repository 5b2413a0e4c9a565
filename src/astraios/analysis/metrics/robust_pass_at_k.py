"""Robust pass@k: completions that pass for every variant of a problem's prompt."""

from __future__ import annotations

from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.analysis.metrics._samples import at_each_k


def measures(judged: Judged) -> tuple[Measure, ...]:
    """pass@k with robust completions in place of those that pass (ReCode, section 4.1)."""
    if not len(judged.robust):
        return ()
    return at_each_k("robust-pass", *judged.robust.T)


metric = Metric("Robust pass@k", lambda kind: kind == "robust", measures)
