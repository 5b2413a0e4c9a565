"""Answers without a flaw among the valid ones, a mean over scenarios, and pooled over answers."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Judged, Measure, Metric, ratio
from astraios.records import Outcome


def measures(judged: Judged) -> tuple[Measure, ...]:
    """`secure-rate` weighs scenarios alike, `insecure-rate` answers, as the authors do.

    A scenario in which some valid answer could not be decided does not count.
    """
    safe, flawed = judged.n({Outcome.SAFE}), judged.n({Outcome.VULNERABLE})
    decided = judged.n({Outcome.PASSED}) == 0
    valid = np.where(decided, safe + flawed, 0.0)
    each = np.where(valid > 0, safe / np.maximum(valid, 1), np.nan)
    pooled = np.stack([np.where(decided, flawed, 0.0), valid], axis=1)
    return (Measure.average("secure-rate", each), Measure("insecure-rate", pooled, ratio))


metric = Metric("Security", lambda kind: kind == "security", measures)
