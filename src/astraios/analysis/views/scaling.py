"""How the score of each method grows with the size of the base model, task by task."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid, legend, point, short_count
from astraios.analysis.frames import Frames
from astraios.analysis.style import MUTED, Look
from astraios.analysis.views import View


def render(frames: Frames) -> Figure:
    """A panel a task, a line a method over parameters of the base (log), or over models."""
    quality = frames.quality
    data = quality[quality["value"].notna()].copy()
    sized = all(model in frames.sizes for model in data["model"])
    places = {model: place for place, model in enumerate(frames.models)}
    data["parameters"] = [frames.sizes.get(model) for model in data["model"]]
    data["x"] = data["parameters"] if sized else [places[model] for model in data["model"]]
    data = data.sort_values(["task", "method", "x"], kind="stable").reset_index(drop=True)
    tasks = [task for task in frames.tasks if task in set(data["task"])]
    columns = min(len(tasks), 3) or 1

    def draw(canvas: Canvas) -> Tips:
        tips: dict[str, str] = {}
        panels = grid(canvas, len(tasks), most=3)
        for number, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
            own = data[data["task"] == task]
            tips |= _panel(axes, own, style.looks(frames.methods), f"tip-{number}", sized)
            models = [model for model in frames.models if model in set(own["model"])]
            _axis(axes, models, frames, places, sized)
            if len(tasks) > 1:
                axes.set_title(style.shortened(task))
            axes.set_ylabel(f"{own['metric'].iloc[0]}, %")
        legend(canvas, panels)
        return tips

    return Figure(
        draw,
        data.drop(columns="x"),
        f"Score against the parameters of the base model (log scale), a panel for each task. A "
        f"dotted line is what guessing gets. {basis(frames, quality)}",
        f"Scores of each method over {data['model'].nunique()} sizes of the base model on "
        f"{len(tasks)} task{'s' * (len(tasks) != 1)}.",
        width=3.55 * columns + 0.2 if columns > 1 else 7.4,
        height=(2.75 if columns > 1 else 3.9) * -(-len(tasks) // columns) + 0.35,
    )


def _panel(
    axes: Axes, data: pd.DataFrame, looks: Mapping[str, Look], prefix: str, sized: bool
) -> Tips:
    tips: dict[str, str] = {}
    for chance in sorted(set(data["chance"].dropna())):
        axes.axhline(100 * chance, color=MUTED, ls=":", lw=1)
    for shift, (method, look) in enumerate(looks.items()):
        own = data[data["method"] == method]
        if not len(own):
            continue
        # A small sideways shift keeps the intervals of one size from covering each other.
        nudge = 1 + 0.012 * (shift - len(looks) / 2)
        xs = [x * nudge if sized else x + nudge - 1 for x in own["x"]]
        axes.plot(xs, 100 * own["value"], color=look.colour, lw=1.4)
        for place, (x, row) in enumerate(zip(xs, rows_of(own), strict=True)):
            low, value, high = (100 * row[end] for end in ("low", "value", "high"))
            axes.plot([x, x], [low, high], color=look.colour, lw=1.1, alpha=0.45)
            gid = f"{prefix}-{len(tips)}"
            point(axes, x, value, look, gid, size=6, label="" if place else look.title)
            tips[gid] = (
                f"{look.title}, {row['model']}, {row['task']}: {value:.1f} % "
                f"[{low:.1f}, {high:.1f}], n = {row['n']}"
            )
    axes.set_ylim(0)
    return tips


def _axis(
    axes: Axes, models: list[str], frames: Frames, places: Mapping[str, int], sized: bool
) -> None:
    if not sized:
        axes.set_xticks([places[model] for model in models], models, rotation=20, ha="right")
        return
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    sizes = sorted({frames.sizes[model] for model in models})
    axes.set_xticks(sizes, [short_count(size) for size in sizes])
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    axes.set_xlabel("parameters of the base model")


view = View("Scaling with model size", 35, ("quality", "several_models"), render, "scaling")
