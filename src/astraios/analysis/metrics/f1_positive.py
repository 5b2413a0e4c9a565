"""F1 of the positive class; an answer that cannot be read misses its class."""

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table("F1 of the positive class", "f1-positive", confusion.f1_positive)
