"""Training and validation loss of every method, step by step, model by model."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import measured
from astraios.analysis.figures import Figure, Tips, grid, legend, thinned
from astraios.analysis.frames import Frames
from astraios.analysis.views import View
from astraios.records import RunKind

MEASURES = (("loss", "training loss"), ("validation_loss", "validation loss"))
MOST = 4
"""Models that get a row of panels: the largest ones."""


def render(frames: Frames) -> Figure:
    """A row of two panels a model, a line a method; thin lines are seeds, thick ones their mean."""
    steps = frames.steps[frames.steps["kind"] == RunKind.TRAIN]
    known = [model for model in frames.models if model in set(steps["model"])]
    models = known[-MOST:]
    columns = ["model", "method", "seed", "step", "loss", "validation_loss", "n_tokens"]
    data = steps[columns].reset_index(drop=True)
    n_seeds = data["seed"].nunique()
    n_runs = len(data[["model", "method", "seed"]].drop_duplicates())

    def draw(canvas: Canvas) -> Tips:
        # Losses of models of different sizes do not belong on one axis.
        panels = grid(canvas, 2 * len(models), most=2, sharey="row")
        for place, axes in enumerate(panels):
            model, (measure, label) = models[place // 2], MEASURES[place % 2]
            _lines(axes, data[data["model"] == model], measure, frames)
            axes.set_title(f"{label}, {style.shortened(model)}" if len(models) > 1 else label)
            if place >= len(panels) - 2:
                axes.set_xlabel("optimizer step")
            if place % 2 == 0:
                axes.set_ylabel("nats per target token")
        legend(canvas, reversed(panels))
        return {}

    seeds = f"Thin lines: {n_seeds} seeds; thick: their mean. " if n_seeds > 1 else "One seed. "
    left_out = len(known) - len(models)
    others = f"{left_out} smaller models are in the data only. " if left_out else ""
    return Figure(
        draw,
        data,
        "Loss on the answer's tokens while tuning. Training loss is the mean since the record "
        f"before. {seeds}{others}Validation examples are the same for all methods. "
        f"{measured(frames, n_runs, 'trainings')}",
        f"Training and validation loss of {data['method'].nunique()} methods over the steps, on "
        f"{len(models)} model{'s' * (len(models) != 1)}.",
        width=8.4,
        height=0.6 + (3.3 if len(models) == 1 else 2.5) * len(models),
    )


def _lines(axes: Axes, data: pd.DataFrame, measure: str, frames: Frames) -> None:
    for method, look in style.looks(frames.methods).items():
        own = data[(data["method"] == method) & data[measure].notna()]
        if not len(own):
            continue
        seeds = own.groupby("seed")
        if len(seeds) > 1:
            for _, run in seeds:
                thin = thinned(run)
                axes.plot(thin["step"], thin[measure], color=look.colour, lw=0.6, alpha=0.35)
        mean = thinned(own.groupby("step")[measure].mean().reset_index())
        axes.plot(
            mean["step"],
            mean[measure],
            color=look.colour,
            lw=1.6,
            marker=look.marker if len(mean) <= 30 else None,
            ms=4.5,
            label=look.title,
        )


view = View("Loss while tuning", 20, ("steps", "losses"), render, section="losses")
