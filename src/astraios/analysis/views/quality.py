"""Quality against trainable parameters: the picture of the first screen."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid, point, short_count, spread_labels
from astraios.analysis.frames import Frames
from astraios.analysis.style import INK, MUTED
from astraios.analysis.tables import Kind, show_value
from astraios.analysis.views import View

MOST = 6
"""Models that get a panel: the largest ones."""


def render(frames: Frames) -> Figure:
    """A panel per model: score with intervals, the base as a band, the Pareto front as a line."""
    data = _data(frames)
    models = [model for model in frames.models if model in set(data["model"])]
    left_out = len(models[:-MOST])
    models = models[-MOST:]
    rates = frames.quality[frames.quality["task"] == frames.headline_task]
    metric = rates["metric"].iloc[0]
    front = ", ".join(
        style.title(method)
        for method in data[data["on_front"] & (data["model"] == frames.headline_model)]["method"]
    )
    columns = len(models) if len(models) <= 3 else -(-len(models) // 2)

    def draw(canvas: Canvas) -> Tips:
        tips: dict[str, str] = {}
        panels = grid(canvas, len(models), most=columns, sharey=True)
        for place, (axes, model) in enumerate(zip(panels, models, strict=True)):
            tips |= _panel(axes, data[data["model"] == model], frames, f"tip-{place}")
            if len(models) > 1:
                axes.set_title(style.shortened(model))
            if place % columns == 0:
                axes.set_ylabel(f"{metric}, %")
            if place < len(models) - columns:
                axes.set_xlabel("")
        top = float(data["high"].max()) if len(data) else 1.0
        panels[0].set_ylim(0, 100 * min(1.0, top * 1.08 + 0.02))  # of all: they share it
        for axes, model in zip(panels, models, strict=True):
            _names(axes, data[data["model"] == model], frames)
        return tips

    has_base = (data["method"] == style.BASE).any()
    base = "The dashed line and its band are the untuned base. " if has_base else ""
    others = f"{left_out} smaller models are in the data only. " if left_out else ""
    return Figure(
        draw,
        data,
        f"{metric} on {frames.headline_task} against trainable parameters (log scale). The line "
        f"joins the Pareto front: "
        f"methods that no other equals with fewer parameters or beats with as few. {base}{others}"
        f"{basis(frames, rates)}",
        f"{metric} against trainable parameters, one point per method; on the Pareto front of "
        f"{frames.headline_model}: {front or 'nothing'}.",
        width=8.2 if len(models) == 1 else 3.9 * columns,
        height=4.4 if len(models) <= 3 else 6.6,
    )


def _data(frames: Frames) -> pd.DataFrame:
    rates = frames.quality[frames.quality["task"] == frames.headline_task]
    trained = frames.trainable[["model", "method", "trainable_parameters"]]
    data = rates.merge(trained, on=["model", "method"], how="left")
    data.loc[data["method"] == style.BASE, "trainable_parameters"] = 0
    data = data[data["trainable_parameters"].notna() & data["value"].notna()]
    data = data.sort_values(["model", "trainable_parameters"], kind="stable").reset_index(drop=True)
    data["on_front"] = [_on_front(data, row) for _, row in data.iterrows()]
    columns = ["model", "method", "task", "metric", "trainable_parameters", "value", "low", "high"]
    return data[[*columns, "n", "n_seeds", "n_faults", "on_front"]]


def _on_front(data: pd.DataFrame, row: pd.Series) -> bool:
    if row["method"] == style.BASE:
        return False
    others = data[(data["model"] == row["model"]) & (data["method"] != style.BASE)]
    cost, value = row["trainable_parameters"], row["value"]
    as_good = (others["trainable_parameters"] <= cost) & (others["value"] >= value)
    better = (others["trainable_parameters"] < cost) | (others["value"] > value)
    return not bool((as_good & better).any())


def _panel(axes: Axes, data: pd.DataFrame, frames: Frames, prefix: str) -> Tips:
    looks = style.looks(frames.methods)
    tips: dict[str, str] = {}
    tuned = data[(data["method"] != style.BASE) & (data["trainable_parameters"] > 0)]
    axes.set_xscale("log")
    if len(tuned):
        smallest, largest = (tuned["trainable_parameters"].agg(f) for f in ("min", "max"))
        axes.set_xlim(smallest / 2.2, largest * 3.2)
    front = tuned[tuned["on_front"]]
    corners = (front["trainable_parameters"], 100 * front["value"])
    axes.plot(*corners, drawstyle="steps-post", color=MUTED, lw=1.2, zorder=1.5)
    for row in rows_of(data[data["method"] == style.BASE]):
        axes.axhspan(100 * row["low"], 100 * row["high"], color=MUTED, alpha=0.14, lw=0)
        axes.axhline(100 * row["value"], color=MUTED, ls=(0, (5, 3)), lw=1)
        beside = axes.get_yaxis_transform()
        axes.text(0.01, 100 * row["high"] + 0.6, "base, untuned", transform=beside, color=MUTED)
    for row in rows_of(tuned):
        look = looks[row["method"]]
        x, y = row["trainable_parameters"], 100 * row["value"]
        axes.plot(
            [x, x], [100 * row["low"], 100 * row["high"]], color=look.colour, lw=1.6, alpha=0.55
        )
        gid = f"{prefix}-{len(tips)}"
        point(axes, x, y, look, gid, size=8.5)
        tips[gid] = (
            f"{look.title}: {y:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}], "
            f"{show_value(x, Kind.COUNT)} trained parameters"
        )
    axes.set_xlabel("trainable parameters", color=INK)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return tips


def _names(axes: Axes, data: pd.DataFrame, frames: Frames) -> None:
    looks = style.looks(frames.methods)
    tuned = data[(data["method"] != style.BASE) & (data["trainable_parameters"] > 0)]
    labels = [
        (row["trainable_parameters"], 100 * row["value"], look.title, look.colour)
        for row in rows_of(tuned)
        for look in [looks[row["method"]]]
    ]
    spread_labels(axes, labels, lift=0.7)  # clear of the front


view = View(
    "Quality against trainable parameters", 1, ("quality", "priced"), render, section="quality"
)
