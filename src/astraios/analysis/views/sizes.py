"""Method by model size on every task, whatever it is scored by."""

from __future__ import annotations

from typing import Any

import pandas as pd

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.comparison import LEVEL
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

BEHIND_BEST = "†"
OFF_FULL = "‡"


def render(frames: Frames) -> Table:
    """One row per task and method, one column per model, small to large; holes stay dashes."""
    quality = frames.quality
    judged = set(quality["model"])
    models = [model for model in frames.models if model in judged]
    apart = _apart(frames.quality_pairs)
    rows = []
    for task in frames.tasks:
        own = quality[quality["task"] == task]
        if not len(own):
            continue
        cells = {(row["model"], row["method"]): row for row in rows_of(own)}
        best = {model: _best(frames, cells, model) for model in models}
        for method in frames.methods:
            row: dict[str, Any] = {"task": task, "metric": own["metric"].iloc[0], "method": method}
            for model in models:
                found = Range.of(cells.get((model, method)))
                row[model] = found and _marked(found, apart, task, model, method, best[model])
            chance = own["chance"].dropna()
            row["chance"] = float(chance.iloc[0]) if len(chance) else None
            rows.append(row)
    columns = [Column("method", "Method", Kind.METHOD), Column("task", "Task")]
    columns.append(Column("metric", "Metric", note="the task's own measure, higher is better"))
    for model in models:
        size = frames.sizes.get(model)
        note = f"{size:,} parameters" if size else ""
        columns.append(Column(model, f"{model} %", Kind.RATE, note, marked=True))
    if quality["chance"].notna().any():
        columns.append(
            Column("chance", "Chance %", Kind.PERCENT, "the best guess that looks at no problem")
        )
    caption = (
        f"Every task by method and base model. {BEHIND_BEST}: behind the best method of that model "
        f"and task; {OFF_FULL}: differs from {style.title(style.FULL)}; both with an adjusted "
        f"p-value below {LEVEL} (paired over the same problems, Holm within model and task). What "
        f"has no {BEHIND_BEST} cannot be told from the best. {basis(frames, quality)}"
    )
    return Table(tuple(columns), tuple(rows), caption)


def _apart(pairs: pd.DataFrame) -> set[tuple[str, str, str, str]]:
    """Task, model and two methods, either way round, wherever they differ."""
    certain = pairs[pairs["p_holm"] < LEVEL] if len(pairs) else pairs
    found = set()
    for row in rows_of(certain):
        found.add((row["task"], row["model"], row["a"], row["b"]))
        found.add((row["task"], row["model"], row["b"], row["a"]))
    return found


def _best(frames: Frames, cells: dict[tuple[str, str], dict[str, Any]], model: str) -> str | None:
    """The method that scores highest; of equal ones the first in display order."""
    values = {
        method: cells[model, method]["value"]
        for method in frames.methods
        if (model, method) in cells and not pd.isna(cells[model, method]["value"])
    }
    return max(values, key=lambda method: values[method]) if values else None


def _marked(
    found: Range,
    apart: set[tuple[str, str, str, str]],
    task: str,
    model: str,
    method: str,
    best: str | None,
) -> Range:
    marks = ""
    if best is not None and (task, model, method, best) in apart:
        marks += BEHIND_BEST
    if (task, model, method, style.FULL) in apart:
        marks += OFF_FULL
    return Range(found.value, found.low, found.high, marks=marks)


view = View("Method by model size", 11, ("quality",), render, section="quality")
