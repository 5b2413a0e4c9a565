"""Right answers of all; one that cannot be read is wrong."""

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table("Accuracy", "accuracy", confusion.accuracy)
