"""pass@1 on every task and on its parts."""

from __future__ import annotations

from typing import Any

from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View


def render(frames: Frames) -> Table:
    """One row per model and method; a column per task and, where a task has parts, per part."""
    parts = {
        task: sorted(own["slice"].unique())
        for task in frames.pass_tasks
        for own in [frames.slice_rates[frames.slice_rates["task"] == task]]
    }
    columns = [Column("method", "Method", Kind.METHOD)]
    if frames.several_models:
        columns.insert(0, Column("model", "Model"))
    for task, slices in parts.items():
        columns.append(Column(task, f"{task} %", Kind.RATE))
        if len(slices) > 1:
            columns += [Column(f"{task}:{s}", f"· {s or 'other'} %", Kind.RATE) for s in slices]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows_of(frames.pass_rates):
        cells.setdefault((row["model"], row["method"]), {})[row["task"]] = Range.of(row)
    for row in rows_of(frames.slice_rates):
        key = f"{row['task']}:{row['slice']}"
        cells.setdefault((row["model"], row["method"]), {})[key] = Range.of(row)
    rows = [
        {"model": model, "method": method, **cells[model, method]}
        for model in frames.models
        for method in frames.methods
        if (model, method) in cells
    ]
    caption = (
        "pass@1 per task; columns with a dot are parts of the task to their left (for minipack: "
        f"the number of steps a problem asks for). {basis(frames, frames.pass_rates)}"
    )
    return Table(tuple(columns), tuple(rows), caption)


view = View("Tasks and their parts", 12, ("pass_rates",), render, section="quality")
