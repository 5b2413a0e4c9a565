"""Which learning rates were tried for every method, and which was chosen."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import measured
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid, legend, point
from astraios.analysis.frames import Frames
from astraios.analysis.style import MUTED
from astraios.analysis.views import View

MOST = 6
"""Models that get a panel: the largest ones."""


def render(frames: Frames) -> Figure:
    """A panel a model: loss over rate of the longest trials; a ring is around the chosen one."""
    data = frames.searches
    known = [model for model in frames.models if model in set(data["model"])]
    models = known[-MOST:]
    last = data.groupby(["model", "method"])["rung"].transform("max")
    longest = data[data["rung"] == last]

    def draw(canvas: Canvas) -> Tips:
        tips: dict[str, str] = {}
        panels = grid(canvas, len(models), most=3)
        for number, (axes, model) in enumerate(zip(panels, models, strict=True)):
            own = longest[longest["model"] == model]
            tips |= _panel(axes, own, frames, f"tip-{number}")
            if len(models) > 1:
                axes.set_title(style.shortened(model))
            axes.set_xlabel("learning rate")
            if number % 3 == 0:
                axes.set_ylabel("validation loss, nats per token")
        legend(canvas, panels)
        return tips

    n_diverged = int(data["validation_loss"].isna().sum())
    how = ", ".join(sorted(set(data["how"])))
    on = ", ".join(sorted(set(data["on"])))
    edge = _at_the_edge(data)
    edges = (
        f"The best rate lies at the end of what was tried for {', '.join(edge)}: a better one may "
        "lie beyond. "
        if edge
        else ""
    )
    return Figure(
        draw,
        data,
        f"Learning rates that were tried ({how}, decided by {on}); a ring marks the chosen one, "
        f"trials cut short are in the data only. {n_diverged} of {len(data)} trials diverged and "
        f"have no loss. {edges}{measured(frames, len(data), 'trials')}",
        f"Validation loss over learning rate of {data['method'].nunique()} methods.",
        width=7.4 if len(models) == 1 else 3.55 * min(len(models), 3) + 0.2,
        height=3.9 if len(models) == 1 else 2.75 * -(-len(models) // 3) + 0.35,
    )


def _panel(axes: Axes, data: pd.DataFrame, frames: Frames, prefix: str) -> Tips:
    tips: dict[str, str] = {}
    for method, look in style.looks(frames.methods).items():
        own = data[(data["method"] == method) & data["validation_loss"].notna()]
        own = own.sort_values("learning_rate", kind="stable")
        if not len(own):
            continue
        axes.plot(own["learning_rate"], own["validation_loss"], color=look.colour, lw=1.3)
        for place, row in enumerate(rows_of(own)):
            x, y = row["learning_rate"], row["validation_loss"]
            if row["chosen"]:
                ring: dict[str, Any] = {
                    "marker": "o",
                    "ms": 13,
                    "mfc": "none",
                    "mew": 1.2,
                    "ls": "none",
                }
                axes.plot([x], [y], color=MUTED, **ring)
            gid = f"{prefix}-{len(tips)}"
            point(axes, x, y, look, gid, size=6, label="" if place else look.title)
            chosen = ", chosen" if row["chosen"] else ""
            tips[gid] = f"{look.title}, {row['model']}: rate {x:g}, loss {y:.3f}{chosen}"
    axes.set_xscale("log")
    return tips


def _at_the_edge(data: pd.DataFrame) -> list[str]:
    """Arms whose chosen rate is the smallest or largest of those tried."""
    found = []
    for (model, method), own in data.groupby(["model", "method"], sort=False):
        chosen = set(own[own["chosen"]]["learning_rate"])
        tried = own["learning_rate"]
        if own["learning_rate"].nunique() > 1 and chosen & {tried.min(), tried.max()}:
            found.append(f"{style.title(str(method))} ({model})")
    return found


view = View("Learning rates that were tried", 21, ("searches",), render, section="losses")
