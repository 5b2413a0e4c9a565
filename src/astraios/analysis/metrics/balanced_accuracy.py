"""Mean share of right answers over the classes; one that cannot be read is wrong."""

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table("Balanced accuracy", "balanced-accuracy", confusion.balanced_accuracy)
