"""Matthews' correlation of labels and answers, "no answer" being a third one."""

from astraios.analysis.metrics._answers import of_table
from astraios.metrics import confusion

metric = of_table("Matthews correlation", "mcc", confusion.matthews)
