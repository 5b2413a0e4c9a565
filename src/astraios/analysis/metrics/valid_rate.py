"""Answers that can be read, or programs that a security checker can judge, of all."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Judged, Measure, Metric, ratio
from astraios.analysis.metrics._answers import CLASSIFICATION, INVALID_CELLS, parts
from astraios.records import Outcome

COMPILED = frozenset({Outcome.SAFE, Outcome.VULNERABLE, Outcome.PASSED})
"""Outcomes of programs that a security checker can judge."""


def measures(judged: Judged) -> tuple[Measure, ...]:
    """Of questions a mean over problems; of programs pooled over samples, as tasks do."""
    if any(answer is not None for _, answer in judged.counts):
        cells = parts(judged)
        return (Measure.average("valid-rate", np.delete(cells, INVALID_CELLS, axis=1).sum(1)),)
    valid = judged.n(COMPILED)
    return (Measure("valid-rate", np.stack([valid, judged.n_counted], axis=1), ratio),)


metric = Metric("Valid answers", lambda kind: kind in (CLASSIFICATION, "security"), measures)
