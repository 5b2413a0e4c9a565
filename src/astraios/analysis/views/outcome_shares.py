"""What became of the completions, as stacked shares: task by task, method by method."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from astraios.analysis import style
from astraios.analysis.captions import sandbox
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid
from astraios.analysis.frames import Frames
from astraios.analysis.style import PAPER
from astraios.analysis.views import View
from astraios.records import Outcome

COLOURS = MappingProxyType(
    {
        Outcome.PASSED: "#1d8a56",
        Outcome.SAFE: "#63b58c",
        Outcome.FAILED: "#d9a5a0",
        Outcome.VULNERABLE: "#c4685f",
        Outcome.COMPILE_ERROR: "#9a4b45",
        Outcome.CRASHED: "#7d5f8f",
        Outcome.TIMED_OUT: "#d8a93c",
        Outcome.OUT_OF_MEMORY: "#a8842f",
        Outcome.FORGED: "#5a3d6e",
        Outcome.UNPARSED: "#9aa3ad",
        Outcome.FAULT: "#3b3f46",
    }
)
"""Green is good; what failed is darker the less of it ran; grey was not read, black not judged."""
HATCHED = frozenset({Outcome.COMPILE_ERROR, Outcome.TIMED_OUT, Outcome.FAULT})
"""Told apart by more than their colour from what stands beside them."""


def render(frames: Frames) -> Figure:
    """A panel a task, a bar a method, on the largest model; the table has all models."""
    outcomes = frames.outcomes
    model = next(m for m in reversed(frames.models) if m in set(outcomes["model"]))
    own = outcomes[outcomes["model"] == model]
    data = own.groupby(["task", "method", "outcome"], sort=False)["n"].sum().reset_index()
    data["share"] = data["n"] / data.groupby(["task", "method"])["n"].transform("sum")
    tasks = [task for task in frames.tasks if task in set(data["task"])]
    methods = [method for method in frames.methods if method in set(data["method"])]
    columns = min(len(tasks), 3)

    def draw(canvas: Canvas) -> Tips:
        tips: dict[str, str] = {}
        panels = grid(canvas, len(tasks), most=3, sharey=True, sharex=True)
        for number, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
            tips |= _bars(axes, data[data["task"] == task], methods, f"tip-{number}")
            axes.set_title(style.shortened(task))
            if number >= len(tasks) - columns:
                axes.set_xlabel("share of completions, %")
        named = [one for one in COLOURS if one in set(data["outcome"])]
        bars = [Patch(**_fill(one)) for one in named]
        labels = [one.replace("_", " ") for one in named]
        canvas.legend(bars, labels, loc="outside lower center", ncols=min(len(named), 6))
        return tips

    n, n_faults = int(data["n"].sum()), int(data[data["outcome"] == Outcome.FAULT]["n"].sum())
    return Figure(
        draw,
        data,
        f"What became of the completions of {model}, all seeds together: n = {n:,} completions; "
        f"plain shares without an interval; {n_faults:,} fault{'s' * (n_faults != 1)} of the "
        f"engine or grader, never the model's. Sandbox: {sandbox(frames)}.",
        f"Shares of outcomes of {len(methods)} methods on {len(tasks)} tasks.",
        width=3.5 * columns + 0.9,
        height=(0.27 * len(methods) + 0.75) * -(-len(tasks) // columns) + 0.5,
    )


def _bars(axes: Axes, data: pd.DataFrame, methods: list[str], prefix: str) -> Tips:
    tips: dict[str, str] = {}
    counts = {
        (row["method"], row["outcome"]): (int(row["n"]), float(row["share"]))
        for row in rows_of(data)
    }
    for place, method in enumerate(methods):
        left = 0.0
        for outcome in COLOURS:
            n, share = counts.get((method, outcome), (0, 0.0))
            if not n:
                continue
            (bar,) = axes.barh(place, 100 * share, left=left, height=0.72, **_fill(outcome))
            gid = f"{prefix}-{len(tips)}"
            bar.set_gid(gid)
            tips[gid] = (
                f"{style.title(method)}: {n:,} {outcome.replace('_', ' ')}, {100 * share:.1f} %"
            )
            left += 100 * share
    axes.set_xlim(0, 100)
    axes.set_yticks(range(len(methods)), [style.title(method) for method in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    return tips


def _fill(outcome: Outcome) -> dict[str, Any]:
    hatch = "////" if outcome in HATCHED else None
    return {"facecolor": COLOURS[outcome], "edgecolor": PAPER, "linewidth": 0.5, "hatch": hatch}


view = View("Outcomes as shares", 49, ("outcomes",), render, section="outcomes")
