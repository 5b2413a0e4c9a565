"""Yes/no tasks over model sizes: accuracy and F1, asked alone beside one example, and chance.

The figures of the paper's notebook, with what guessing gets drawn in.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from astraios.analysis import comprehension, style
from astraios.analysis.captions import basis, mean_of_seeds
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, point
from astraios.analysis.frames import Frames
from astraios.analysis.views import Need, View

METRICS = ("accuracy", "f1")
LABELS = {"accuracy": "accuracy, %", "f1": "macro F1, %"}
F1 = ("f1-macro", "f1-macro-two-class")
"""The paper's number counts "no answer" as a class; in the clean protocol there is none such."""


def render(frames: Frames) -> Figure:
    """A row of panels a metric, a column a task; one line a method, a gap where a cell is empty."""
    scores = comprehension.judged(frames)
    data = _data(frames, scores)
    tasks = [
        f"{task}{shot}" for task in comprehension.pairs(frames) for shot in comprehension.SHOTS
    ]
    looks = style.looks(m for m in frames.methods if m in set(data["method"]))

    def draw(canvas: Canvas) -> Tips:
        panels = canvas.subplots(len(METRICS), len(tasks), sharex=True, sharey="row", squeeze=False)
        tips: dict[str, str] = {}
        for row, metric in enumerate(METRICS):
            for column, task in enumerate(tasks):
                axes = panels[row][column]
                own = data[(data["task"] == task) & (data["metric"] == metric)]
                _lines(axes, own, frames.models, looks, tips)
                if not row:
                    axes.set_title(comprehension.title(task))
                if not column:
                    axes.set_ylabel(LABELS[metric])
                names = [_short(model, frames.sizes.get(model)) for model in frames.models]
                axes.set_xticks(range(len(names)), names)
                axes.set_ylim(0, 100 * min(1.0, 1.15 * _highest(data, metric)))
        handles = {
            label: handle
            for axes in panels.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        ordered = [look.title for look in looks.values() if look.title in handles]
        ordered += [label for label in handles if label not in ordered]
        canvas.legend([handles[label] for label in ordered], ordered, loc="outside right center")
        return tips

    counted = comprehension.main_slice(scores, "accuracy").assign(n=lambda own: own["n_problems"])
    return Figure(
        draw,
        data,
        "Yes/no tasks over model sizes, each asked alone and behind one answered example. Dashed: "
        "the best guess that never looks at the code (for accuracy the more frequent answer "
        "throughout); a line below it is worse than not reading. F1 is the paper's: it averages "
        "over the classes that occur, and one answer that cannot be read makes 'no answer' a "
        f"third class with an F1 of 0. {_missing(frames, data)}{mean_of_seeds(scores)}"
        f"{basis(frames, counted)}",
        f"Accuracy and F1 of {len(looks)} methods on {len(tasks)} yes/no tasks over model sizes.",
        width=2.0 + 2.5 * len(tasks),
        height=5.6,
    )


def _data(frames: Frames, scores: pd.DataFrame) -> pd.DataFrame:
    """One row an arm, task and metric; an arm's seeds averaged."""
    parts = [comprehension.main_slice(scores, "accuracy").assign(metric="accuracy")]
    f1 = pd.concat([comprehension.main_slice(scores, name) for name in F1])
    first = f1.drop_duplicates(["model", "method", "seed", "task"])
    parts.append(first.assign(metric="f1"))
    joined = pd.concat(parts)
    keys = ["task", "metric", "model", "method"]
    columns = ["value", "low", "high", "chance"]
    found = joined.groupby(keys, as_index=False, sort=False, observed=True)[columns].mean()
    places = {model: place for place, model in enumerate(frames.models)}
    found["place"] = found["model"].map(places)
    return found.sort_values(
        ["task", "metric", "method", "place"], kind="stable", ignore_index=True
    )


def _lines(
    axes: Axes,
    own: pd.DataFrame,
    models: tuple[str, ...],
    looks: dict[str, style.Look],
    tips: dict[str, str],
) -> None:
    chance = own.groupby("place")["chance"].first()
    if len(chance):
        ends = [-0.3, *chance.index[1:-1], len(models) - 0.7]
        levels = [chance.iloc[0], *chance.iloc[1:-1], chance.iloc[-1]]
        axes.plot(
            ends, [100 * level for level in levels], ls="--", lw=1, color=style.MUTED,
            label="best guess", zorder=1,
        )  # fmt: skip
    else:
        axes.text(0.5, 0.5, "not judged", transform=axes.transAxes, ha="center", color=style.MUTED)
    for shift, (method, look) in enumerate(looks.items()):
        rows = {row["place"]: row for row in rows_of(own[own["method"] == method])}
        nudge = 0.035 * (shift - (len(looks) - 1) / 2)
        xs = [place + nudge for place in range(len(models))]
        # A gap stays a gap: a line joins neighbours only.
        ys = [100 * rows[at]["value"] if at in rows else float("nan") for at in range(len(models))]
        line: dict[str, Any] = {"color": look.colour, "marker": look.marker}
        if rows:
            axes.plot(xs, ys, lw=1.4, ms=4, label=look.title, **line)
        for place, row in rows.items():
            ends = [100 * row["low"], 100 * row["high"]]
            axes.plot([xs[place]] * 2, ends, color=look.colour, lw=0.9, alpha=0.45)
            gid = f"tip-{len(tips)}"
            point(axes, xs[place], ys[place], look, gid, size=5)
            tips[gid] = (
                f"{look.title}, {row['model']}, {comprehension.title(row['task'])}: "
                f"{ys[place]:.1f} % (best guess {100 * row['chance']:.1f} %)"
            )


def _highest(data: pd.DataFrame, metric: str) -> float:
    own = data[data["metric"] == metric]
    return float(own[["value", "high", "chance"]].max().max()) if len(own) else 1.0


def _short(model: str, size: int | None) -> str:
    """What fits under a small panel: `starcoderbase-1b` -> `1b`; else the size, if it is known."""
    last = model.rpartition("-")[2]
    if re.fullmatch(r"[\d.]+[bmk]", last, re.IGNORECASE):
        return last
    return f"{size / 1e9:.0f}b" if size and size > 5e8 else model


def _missing(frames: Frames, data: pd.DataFrame) -> str:
    pairs = comprehension.pairs(frames)
    tasks = [
        task for task in frames.study.tasks if task.removesuffix(comprehension.ONE_SHOT) in pairs
    ]
    there = set(zip(data["task"], data["model"], data["method"], strict=True))
    wanted = list(product(tasks, frames.study.models, frames.study.methods))
    n = sum(cell not in there for cell in wanted)
    return f"{n} of {len(wanted)} cells were not judged; their lines have gaps. " if n else ""


ANSWERED = Need(
    "a judged task of yes/no questions", lambda frames: not comprehension.judged(frames).empty
)

view = View("Code comprehension over model sizes", 51, (ANSWERED,), render, section="comprehension")
