"""Does the validation loss tell which method will score well? Task by task."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from astraios.analysis import correlation, style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid, legend, point, spread_labels
from astraios.analysis.frames import Frames
from astraios.analysis.style import MUTED
from astraios.analysis.tables import Kind, Range, show
from astraios.analysis.views import View

Three = tuple[Range | None, Range | None, Range | None]
MOST = 3
"""Tasks whose correlations the caption tells."""
NAMES = ("Pearson", "Spearman", "Kendall")


def render(frames: Frames) -> Figure:
    """A panel a task, a point a model and method, seeds averaged; correlations without the base."""
    data = _data(frames)
    tasks = [task for task in frames.tasks if task in set(data["task"])]
    found = {task: _correlations(data[data["task"] == task]) for task in tasks}
    several = data["model"].nunique() > 1
    columns = min(len(tasks), 3)

    def draw(canvas: Canvas) -> Tips:
        panels = grid(canvas, len(tasks), most=3)
        tips: dict[str, str] = {}
        for number, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
            own = data[data["task"] == task]
            named = len(tasks) == 1
            tips |= _panel(axes, own, frames, f"tip-{number}", found[task], named=named)
            if not named:
                axes.set_title(style.shortened(task))
            axes.set_ylabel(f"{own['metric'].iloc[0]}, %")
            if number >= len(tasks) - columns:
                axes.set_xlabel("validation loss after tuning")
        if len(tasks) > 1:
            legend(canvas, panels)
        else:
            largest = next(m for m in reversed(frames.models) if m in set(data["model"]))
            looks = style.looks(frames.methods)
            labels = [
                (row["validation_loss"], 100 * row["value"], look.title, look.colour)
                for row in rows_of(data[data["model"] == largest])
                for look in [looks[row["method"]]]
            ]
            spread_labels(panels[0], labels)
        return tips

    told = "; ".join(
        f"{task}: " + ", ".join(f"{n} {_show(r)}" for n, r in zip(NAMES, found[task], strict=True))
        for task in tasks[:MOST]
    )
    if len(tasks) > MOST:
        told += "; for other tasks see the table of correlations"
    sized = "Larger marks are larger models. " if several else ""
    n_tuned = len(data[data["method"] != style.BASE][["model", "method"]].drop_duplicates())
    return Figure(
        draw,
        data,
        f"Validation loss after tuning (nats per target token) against score. Over {n_tuned} tuned "
        f"models, 95 % intervals by Fisher's transformation; the untuned base is drawn, not "
        f"counted: {told}. {sized}{basis(frames, data)}",
        f"Validation loss against score on {len(tasks)} tasks. {told}.",
        width=8.2 if len(tasks) == 1 else 3.55 * columns + 0.2,
        height=4.4 if len(tasks) == 1 else 2.8 * -(-len(tasks) // columns) + 0.35,
    )


def _panel(
    axes: Axes,
    data: pd.DataFrame,
    frames: Frames,
    prefix: str,
    found: Three,
    *,
    named: bool,
) -> Tips:
    tips: dict[str, str] = {}
    looks = style.looks(frames.methods)
    known = [model for model in frames.models if model in set(data["model"])]
    sizes = {model: 5 + 4 * place / max(1, len(known) - 1) for place, model in enumerate(known)}
    largest = {row["method"]: place for place, row in enumerate(rows_of(data))}
    for place, row in enumerate(rows_of(data)):
        look = looks[row["method"]]
        x, y = row["validation_loss"], 100 * row["value"]
        axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=look.colour, lw=1, alpha=0.4)
        gid = f"{prefix}-{len(tips)}"
        label = look.title if place == largest[row["method"]] else ""
        point(axes, x, y, look, gid, size=sizes[row["model"]] + 2 * named, label=label)
        tips[gid] = (
            f"{look.title}, {row['model']}: loss {x:.3f}, {y:.1f} % "
            f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        )
    axes.set_ylim(0)
    axes.margins(x=0.12)
    shown = [f"{name} {_show(r)}" for name, r in zip(NAMES[:2], found[:2], strict=True) if r]
    note: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "top", "color": MUTED}
    axes.text(0.985, 0.98, "\n".join(shown), fontsize=9.5 if named else 7.5, **note)
    return tips


def _correlations(data: pd.DataFrame) -> Three:
    tuned = data[data["method"] != style.BASE]
    loss, score = tuned["validation_loss"].tolist(), tuned["value"].tolist()
    return (
        correlation.pearson(loss, score),
        correlation.spearman(loss, score),
        correlation.kendall(loss, score),
    )


def _data(frames: Frames) -> pd.DataFrame:
    final = frames.losses.groupby(["model", "method"])["final"].mean()
    losses = final.rename("validation_loss").reset_index()
    data = frames.quality.merge(losses, on=["model", "method"])
    data = data[data["value"].notna() & data["validation_loss"].notna()]
    places = {name: place for place, name in enumerate((*frames.models, *frames.methods))}
    data = data.sort_values(
        ["model", "method"], key=lambda names: names.map(places).fillna(0), kind="stable"
    )
    columns = ["model", "method", "task", "metric", "validation_loss"]
    numbers = ["value", "low", "high", "n", "n_seeds", "n_faults"]
    return data[[*columns, *numbers]].reset_index(drop=True)


def _show(value: Range | None) -> str:
    return show(value, Kind.CORRELATION) if value else "not defined (fewer than 4 points)"


view = View("Validation loss against score", 30, ("quality", "forecast"), render, section="losses")
