"""How closely validation loss and score go together, task by task, over and within sizes."""

from __future__ import annotations

from typing import Any

from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.sensitivity import ALL_MODELS
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

KINDS = ("pearson", "spearman", "kendall")
COLUMNS: tuple[Column, ...] = (
    Column("task", "Task"),
    Column("metric", "Metric"),
    Column("model", "Model"),
    Column("n", "Points", Kind.COUNT, "tuned models, seeds averaged"),
    Column("pearson", "Pearson", Kind.CORRELATION, "linear"),
    Column("spearman", "Spearman", Kind.CORRELATION, "of ranks"),
    Column("kendall", "Kendall", Kind.CORRELATION, "of the order of pairs, tau-b"),
)


def render(frames: Frames) -> Table:
    """One row per task and model; 'all sizes' takes the points of all models together."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows_of(frames.loss_correlations):
        key = (row["task"], row["model"])
        name = "all sizes" if row["model"] == ALL_MODELS else row["model"]
        own = cells.setdefault(
            key, {"task": row["task"], "metric": row["metric"], "model": name, "n": row["n"]}
        )
        own[row["kind"]] = Range.of(row)
    order = (ALL_MODELS, *frames.models)
    rows = [
        cells[task, model] for task in frames.tasks for model in order if (task, model) in cells
    ]
    judged = frames.quality[frames.quality["task"].isin({row["task"] for row in rows})]
    caption = (
        "Correlation of the validation loss after tuning with the score, over tuned models: a "
        "negative one says that a lower loss means a higher score. Over all sizes it is mostly "
        "size that moves both; the rows of one model hold it fixed. n = "
        f"{max(row['n'] for row in rows)} points at most, each with its own basis: "
        f"{basis(frames, judged)} Intervals of correlations: 95 %, Fisher's transformation; a dash "
        "is fewer than four points or a constant."
    )
    return Table(COLUMNS, tuple(rows), caption)


view = View("Correlation of loss and score", 31, ("loss_correlations",), render, section="losses")
