"""Model by method: pass@1 on the headline task at every size."""

from __future__ import annotations

from typing import Any

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View


def render(frames: Frames) -> Table:
    """One row per method, one column per model, small to large."""
    rates = frames.pass_rates[frames.pass_rates["task"] == frames.headline_task]
    models = [model for model in frames.models if model in set(rates["model"])]
    cells: dict[str, dict[str, Any]] = {method: {"method": method} for method in frames.methods}
    for row in rows_of(rates):
        cells[row["method"]][row["model"]] = Range.of(row)
    columns = [Column("method", "Method", Kind.METHOD)]
    for model in models:
        size = frames.sizes.get(model)
        note = f"{size:,} parameters" if size else ""
        columns.append(Column(model, f"{model} %", Kind.RATE, note))
    caption = f"pass@1 on {frames.headline_task} by base model. {basis(frames, rates)}"
    return Table(tuple(columns), tuple(cells[m] for m in style.order(cells)), caption)


view = View("Method by model size", 11, ("pass_rates", "several_models"), render, section="quality")
