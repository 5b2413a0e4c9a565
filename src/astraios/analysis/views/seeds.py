"""How much the score of one method moves from seed to seed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import sandbox
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, point
from astraios.analysis.frames import Frames
from astraios.analysis.views import View


def render(frames: Frames) -> Figure:
    """A point a seed, a bar for their mean; the largest model."""
    own = frames.problems[
        (frames.problems["task"] == frames.headline_task)
        & (frames.problems["model"] == frames.headline_model)
    ]
    rates = own.groupby(["method", "seed"], observed=True)["rate"]
    data = rates.agg(["mean", "count"]).reset_index()
    data = data.rename(columns={"mean": "value", "count": "n"})
    data["method"] = data["method"].astype(str)
    looks = {m: look for m, look in style.looks(frames.methods).items() if m in set(data["method"])}
    tuned = data[data["method"] != style.BASE]
    spread = tuned.groupby("method")["value"].std(ddof=1).dropna()
    typical = f"{100 * float(np.sqrt((spread**2).mean())):.1f}" if len(spread) else "unknown"

    def draw(canvas: Canvas) -> Tips:
        axes = canvas.subplots()
        tips: dict[str, str] = {}
        for place, (method, look) in enumerate(looks.items()):
            rows = data[data["method"] == method]
            mean = 100 * rows["value"].mean()
            axes.plot([place - 0.28, place + 0.28], [mean, mean], color=look.colour, lw=2)
            shifts = np.linspace(-0.14, 0.14, len(rows)) if len(rows) > 1 else [0.0]
            for shift, row in zip(shifts, rows_of(rows), strict=True):
                gid = f"tip-{len(tips)}"
                y = 100 * row["value"]
                point(axes, place + shift, y, look, gid)
                tips[gid] = f"{look.title}, seed {row['seed']}: {y:.1f} %"
        axes.set_xticks(range(len(looks)), [look.title for look in looks.values()])
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylim(0)
        axes.set_ylabel(f"pass@1 on {frames.headline_task}, %")
        return tips

    n_faults = int(own["n_faults"].sum())
    return Figure(
        draw,
        data,
        f"pass@1 of every training seed on {frames.headline_model} (points) and their mean (bar). "
        f"Typical standard deviation between seeds: {typical} points. n = {int(data['n'].max())} "
        f"problems a point; single scores without an interval of their own; "
        f"{n_faults} faults left out; sandbox: {sandbox(frames)}.",
        f"pass@1 of each seed, per method; typical standard deviation {typical} points.",
        width=8.2,
        height=3.7,
    )


view = View(
    "Spread between training seeds", 45, ("pass_rates", "several_seeds"), render, section="quality"
)
