"""Every metric of every task, chance beside it."""

from __future__ import annotations

from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

COLUMNS: tuple[Column, ...] = (
    Column("task", "Task"),
    Column("metric", "Metric"),
    Column("method", "Method", Kind.METHOD),
    Column("score", "Score", Kind.RATE, "percent; a correlation times 100"),
    Column("chance", "Chance", Kind.PERCENT, "what the best guess gets that looks at no problem"),
    Column("n", "n", Kind.COUNT, "problems that count"),
)


def render(frames: Frames) -> Table:
    """One row a task, metric, model and method, in the order of the report."""
    found = frames.metrics
    tasks = {task: place for place, task in enumerate(frames.tasks)}
    models = {model: place for place, model in enumerate(frames.models)}
    methods = {method: place for place, method in enumerate(frames.methods)}
    names = {name: place for place, name in enumerate(dict.fromkeys(found["metric"]))}
    ordered = sorted(
        rows_of(found),
        key=lambda row: (
            tasks[row["task"]], names[row["metric"]], models[row["model"]], methods[row["method"]],
        ),
    )  # fmt: skip
    rows = [{**row, "score": Range.of(row)} for row in ordered]
    columns = COLUMNS
    if frames.several_models:
        columns = (*COLUMNS[:2], Column("model", "Model"), *COLUMNS[2:])
    caption = (
        "Every metric that suits a task. A score beside which chance stands means little until it "
        "lies above it: chance is the best guess that looks at no problem, for that metric. "
        f"Means over problems, seeds averaged. {basis(frames, frames.quality)}"
    )
    return Table(columns, tuple(rows), caption)


view = View("All metrics", 64, ("metrics",), render, section="quality")
