"""Accuracy of the more frequent class throughout: what a constant answer gets."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.analysis.metrics._answers import CLASSIFICATION, parts
from astraios.metrics import Floats
from astraios.metrics.confusion import accuracy, guessed


def measures(judged: Judged) -> tuple[Measure, ...]:
    """Which class leads is taken from all problems; of equals the negative one."""
    cells = parts(judged)
    no, yes = np.nansum(cells, axis=0).reshape(2, 3).sum(1)
    says_yes = float(yes > no)

    def constant(sums: Floats) -> Floats:
        return accuracy(guessed(sums.reshape(*sums.shape[:-1], 2, 3), says_yes))

    return (Measure("majority-baseline", cells, constant),)


metric = Metric("Majority baseline", lambda kind: kind == CLASSIFICATION, measures)
