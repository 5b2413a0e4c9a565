"""Does the validation loss tell which method will score well?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from astraios.analysis import correlation, style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, point, spread_labels
from astraios.analysis.frames import Frames
from astraios.analysis.style import MUTED
from astraios.analysis.tables import Kind, Range, show
from astraios.analysis.views import View


def render(frames: Frames) -> Figure:
    """One point per model and method, seeds averaged; the correlation leaves the base out."""
    data = _data(frames)
    tuned = data[data["method"] != style.BASE]
    loss, score = tuned["validation_loss"].tolist(), tuned["value"].tolist()
    linear, ranks = correlation.pearson(loss, score), correlation.spearman(loss, score)
    several = data["model"].nunique() > 1
    looks = style.looks(frames.methods)
    sizes = {model: 7 + 2.2 * place for place, model in enumerate(frames.models)}

    def draw(canvas: Canvas) -> Tips:
        axes = canvas.subplots()
        labels: list[tuple[float, float, str, str]] = []
        tips: dict[str, str] = {}
        for row in rows_of(data):
            look = looks[row["method"]]
            x, y = row["validation_loss"], 100 * row["value"]
            ends = [100 * row["low"], 100 * row["high"]]
            axes.plot([x, x], ends, color=look.colour, lw=1.3, alpha=0.45)
            gid = f"tip-{len(tips)}"
            point(axes, x, y, look, gid, size=sizes[row["model"]])
            name = f"{look.title}, {row['model']}" if several else look.title
            tips[gid] = f"{name}: loss {x:.3f}, {y:.1f} %"
            if row["model"] == frames.headline_model or not several:
                labels.append((x, y, look.title, look.colour))
        axes.set_xlabel("validation loss after tuning, nats per target token")
        axes.set_ylabel(f"pass@1 on {frames.headline_task}, %")
        axes.set_ylim(0)
        axes.margins(x=0.12)
        note = f"Pearson {_show(linear)}\nSpearman {_show(ranks)}"
        axes.text(0.985, 0.97, note, transform=axes.transAxes, ha="right", va="top", color=MUTED)
        spread_labels(axes, labels)
        return tips

    rates = frames.pass_rates[frames.pass_rates["task"] == frames.headline_task]
    sized = "Larger marks are larger models; the largest is labelled. " if several else ""
    return Figure(
        draw,
        data,
        f"Validation loss against pass@1. Over {len(tuned)} tuned models: Pearson {_show(linear)}, "
        f"Spearman {_show(ranks)} (95 % Fisher intervals); the untuned base is drawn, not counted. "
        f"{sized}{basis(frames, rates)}",
        f"Validation loss against pass@1; Pearson correlation {_show(linear)}.",
        width=8.2,
        height=4.4,
    )


def _data(frames: Frames) -> pd.DataFrame:
    rates = frames.pass_rates[frames.pass_rates["task"] == frames.headline_task]
    final = frames.losses.groupby(["model", "method"])["final"].mean()
    data = rates.merge(final.rename("validation_loss").reset_index(), on=["model", "method"])
    data = data[data["value"].notna()].reset_index(drop=True)
    places = {method: place for place, method in enumerate(frames.methods)}
    data = data.sort_values(
        ["model", "method"], key=lambda c: c.map(places).fillna(0), kind="stable"
    )
    columns = [
        "model",
        "method",
        "task",
        "validation_loss",
        "value",
        "low",
        "high",
        "n",
        "n_faults",
    ]
    return data[columns].reset_index(drop=True)


def _show(value: Range | None) -> str:
    return show(value, Kind.CORRELATION) if value else "not defined (fewer than 4 points)"


view = View(
    "Validation loss against score", 30, ("pass_rates", "forecast"), render, section="losses"
)
