"""Training and validation loss of every method, step by step."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.figures import Figure, Tips
from astraios.analysis.frames import Frames
from astraios.analysis.views import View

MEASURES = (("loss", "training loss"), ("validation_loss", "validation loss"))


def render(frames: Frames) -> Figure:
    """Two panels, one line a method; thin lines are single seeds, thick ones their mean."""
    steps = frames.steps[frames.steps["kind"] == "train"]
    # Losses of models of different sizes do not belong on one axis; the largest tells the story.
    model = next(m for m in reversed(frames.models) if m in set(steps["model"]))
    data = steps[steps["model"] == model]
    data = data[["model", "method", "seed", "step", "loss", "validation_loss", "n_tokens"]]
    data = data.reset_index(drop=True)
    n_seeds = data["seed"].nunique()

    def draw(canvas: Canvas) -> Tips:
        left, right = canvas.subplots(1, 2, sharey=True)
        for axes, (measure, label) in zip((left, right), MEASURES, strict=True):
            _lines(axes, data, measure, frames)
            axes.set_title(label)
            axes.set_xlabel("optimizer step")
        left.set_ylabel("nats per target token")
        handles, labels = right.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8) or 1)
        return {}

    smoothed = "Training loss is the mean since the record before. "
    seeds = f"Thin lines: {n_seeds} seeds; thick: their mean. " if n_seeds > 1 else "One seed. "
    return Figure(
        draw,
        data,
        f"Loss on the answer's tokens while tuning {model}. {smoothed}{seeds}"
        "Validation examples are the same for all methods.",
        f"Training and validation loss of {data['method'].nunique()} methods over the steps.",
        width=8.4,
        height=3.9,
    )


def _lines(axes: Axes, data: pd.DataFrame, measure: str, frames: Frames) -> None:
    for method, look in style.looks(frames.methods).items():
        own = data[(data["method"] == method) & data[measure].notna()]
        if not len(own):
            continue
        seeds = own.groupby("seed")
        if len(seeds) > 1:
            for _, run in seeds:
                axes.plot(run["step"], run[measure], color=look.colour, lw=0.6, alpha=0.35)
        mean = own.groupby("step")[measure].mean()
        sparse = len(mean) <= 30
        axes.plot(
            mean.index,
            mean.to_numpy(),
            color=look.colour,
            lw=1.6,
            marker=look.marker if sparse else None,
            ms=4.5,
            markevery=1,
            label=look.title,
        )


view = View("Loss while tuning", 20, ("steps", "losses"), render, section="losses")
