"""Right answers of those that can be read; flatters a model that answers seldom."""

from __future__ import annotations

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table(
    "Accuracy on valid answers", "accuracy-on-valid", confusion.accuracy, only_valid=True
)
