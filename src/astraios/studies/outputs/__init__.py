"""The outputs published with the paper, as a study: found, checked, judged.

names    what a path says: which model answered which task
tree     a folder of outputs as cells of the paper's grid
facts    parameters of the paper's models, which were not trained here
run      cells as run folders, judged and scored
"""

from __future__ import annotations

from astraios.studies.outputs.cells import Result
from astraios.studies.outputs.plan import Plan, Request, plan
from astraios.studies.outputs.run import carry_out, check
from astraios.studies.outputs.tree import TASKS, Cell, Tree, Wanted, wanted

__all__ = [
    "TASKS",
    "Cell",
    "Plan",
    "Request",
    "Result",
    "Tree",
    "Wanted",
    "carry_out",
    "check",
    "plan",
    "wanted",
]
