"""Mean F1 of the two classes; an answer that cannot be read misses its class."""

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table("F1, macro", "f1-macro-two-class", confusion.f1_two_class)
