"""How the score of each method grows with the size of the base model."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, point
from astraios.analysis.frames import Frames
from astraios.analysis.views import View


def render(frames: Frames) -> Figure:
    """One line a method over parameters of the base (log), or over models of unknown size."""
    rates = frames.pass_rates[frames.pass_rates["task"] == frames.headline_task]
    data = rates[rates["value"].notna()].copy()
    sized = all(model in frames.sizes for model in data["model"])
    places = {model: place for place, model in enumerate(frames.models)}
    data["parameters"] = [frames.sizes.get(model) for model in data["model"]]
    data["x"] = data["parameters"] if sized else [places[model] for model in data["model"]]
    data = data.sort_values(["method", "x"], kind="stable").reset_index(drop=True)

    def draw(canvas: Canvas) -> Tips:
        axes = canvas.subplots()
        looks = style.looks(frames.methods)
        tips: dict[str, str] = {}
        for shift, (method, look) in enumerate(looks.items()):
            own = data[data["method"] == method]
            # A small sideways shift keeps the intervals of one size from covering each other.
            nudge = 1 + 0.012 * (shift - len(looks) / 2)
            xs = [x * nudge if sized else x + nudge - 1 for x in own["x"]]
            line: dict[str, Any] = {"color": look.colour, "marker": look.marker}
            axes.plot(xs, 100 * own["value"], lw=1.5, ms=6, label=look.title, **line)
            for x, row in zip(xs, rows_of(own), strict=True):
                ends = [100 * row["low"], 100 * row["high"]]
                axes.plot([x, x], ends, color=look.colour, lw=1.1, alpha=0.45)
                gid = f"tip-{len(tips)}"
                point(axes, x, 100 * row["value"], look, gid)
                tips[gid] = f"{look.title}, {row['model']}: {100 * row['value']:.1f} %"
        models = [model for model in frames.models if model in set(data["model"])]
        if sized:
            axes.set_xscale("log")
            ticks = [frames.sizes[model] for model in models]
            axes.set_xticks(ticks, [f"{model}\n{frames.sizes[model]:,}" for model in models])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("base model and its parameters")
        else:
            axes.set_xticks([places[model] for model in models], models)
        axes.set_ylim(0)
        axes.set_ylabel(f"pass@1 on {frames.headline_task}, %")
        handles, labels = axes.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside right center")
        return tips

    return Figure(
        draw,
        data.drop(columns="x"),
        f"pass@1 against the size of the base model. {basis(frames, rates)}",
        f"pass@1 of each method over {data['model'].nunique()} sizes of the base model.",
        width=8.2,
    )


view = View(
    "Scaling with model size", 35, ("pass_rates", "several_models"), render, section="scaling"
)
