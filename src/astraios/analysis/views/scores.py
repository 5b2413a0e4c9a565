"""Scores that need something beside them: what guessing gets, or why they are only hints.

A classifier's 50 % reads as half right until its chance level stands next to it, and a number of
a tool that misses a tenth of the flaws reads as a measurement until that is said.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pandas as pd

from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

MARKS = MappingProxyType(
    {"above": "above", "below": "BELOW", "indistinguishable": "not distinguishable"}
)
COLUMNS = (
    Column("method", "Method", Kind.METHOD),
    Column("task", "Task"),
    Column("metric", "Metric"),
    Column("slice", "Slice"),
    Column("value", "Score %", Kind.RATE, "as the task computed it"),
    Column("chance", "Chance %", Kind.PERCENT, "the best guess that never looks at the problem"),
    Column("mark", "Against chance", note="where the 95 % interval of score less chance lies"),
    Column("caveat", "Read as", note="why the number is a hint and no measurement"),
)
SEED = Column("seed", "Seed", Kind.COUNT)


def render(frames: Frames) -> Table:
    """One row per model, method, task, slice and metric, in the tasks' own order."""
    found = frames.qualified_scores
    columns = list(COLUMNS)
    if found["seed"].nunique() > 1:
        columns.insert(1, SEED)
    if frames.several_models:
        columns.insert(0, Column("model", "Model"))
    rows = [
        _row(row)
        for model in frames.models
        for method in frames.methods
        for row in rows_of(found[(found["model"] == model) & (found["method"] == method)])
    ]
    counted = found.assign(n=found["n_problems"])
    # One score of each judging: every score of it repeats the same faults.
    arms = counted.drop_duplicates(["model", "method", "seed", "task"])
    caption = (
        "Scores beside what guessing gets, and scores that are only hints. 'Not distinguishable': "
        "the 95 % interval of the paired difference to the best guess holds zero; 'BELOW': "
        f"guessing does better. {basis(frames, arms)}"
    )
    return Table(tuple(columns), tuple(rows), caption)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("model", "method", "seed", "task", "metric", "slice")
    return {
        **{key: row[key] for key in keys},
        "value": Range.of(row),
        "chance": None if pd.isna(row["chance"]) else float(row["chance"]),
        "mark": MARKS.get(row["against_chance"]),
        "caveat": row["caveat"] or None,
    }


view = View(
    "Scores beside chance, and caveats", 13, ("qualified_scores",), render, section="quality"
)
