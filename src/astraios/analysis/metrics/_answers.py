"""Yes/no answers as parts of a table of confusion; see `metrics.confusion`."""

from __future__ import annotations

import numpy as np

from astraios.analysis.metrics import WRONG, Judged, Measure, Metric
from astraios.metrics import Floats
from astraios.metrics.confusion import Metric as OfTable
from astraios.metrics.confusion import best_guess
from astraios.records import Outcome

CLASSIFICATION = "classification"
INVALID_CELLS = (2, 5)
"""Columns of `parts` with answers that could not be read."""


def parts(judged: Judged) -> Floats:
    """Six cells a problem: its class times answer no, yes, none; each problem weighs as one."""
    cells = []
    for label in ("0", "1"):
        right = judged.n({Outcome.PASSED}, label)
        wrong = judged.n({Outcome.FAILED}, label)
        invalid = judged.n(WRONG - {Outcome.FAILED}, label)
        cells += [right, wrong, invalid] if label == "0" else [wrong, right, invalid]
    table = np.stack(cells, axis=1)
    total = table.sum(1, keepdims=True)
    return np.where(total > 0, table / np.where(total > 0, total, 1.0), np.nan)


def of_table(title: str, name: str, metric: OfTable, *, only_valid: bool = False) -> Metric:
    """A number of the table of confusion, with what the best guess gets of it.

    With `only_valid`, answers that cannot be read are left out, and so are problems without others.
    """

    def value(sums: Floats) -> Floats:
        return metric(sums.reshape(*sums.shape[:-1], 2, 3))

    def chance(sums: Floats) -> float:
        return best_guess(metric, sums.reshape(2, 3)).value

    def measures(judged: Judged) -> tuple[Measure, ...]:
        cells = parts(judged)
        if only_valid:
            cells[:, INVALID_CELLS] = 0.0
            cells[~(cells.sum(1) > 0)] = np.nan
        return (Measure(name, cells, value, chance),)

    return Metric(title, lambda kind: kind == CLASSIFICATION, measures)
