"""Robust pass per transformation and model size, as ReCode reports it; one column a method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import Need, View

METRIC = "robust-pass@1"
TOGETHER = {"mean": "mean of transformations", "worst-case": "all of them passed"}
"""Slices that take transformations together, in the order they are printed in."""


def render(frames: Frames) -> Table:
    """Rows by task, transformation and model, small to large; holes are dashes."""
    found = _scores(frames)
    cells: dict[tuple[str, str, str], dict[str, Range | None]] = {}
    for row in rows_of(found.sort_values("seed", kind="stable")):
        key = (row["task"], row["slice"], row["model"])
        cells.setdefault(key, {}).setdefault(row["method"], Range.of(row))
    judged = [task for task in frames.tasks if task in set(found["task"])]
    promised = [
        task
        for task in frames.study.tasks
        if task.startswith("recode-") and task.partition("@")[0] not in judged
    ]
    methods = style.order({*found["method"], *frames.study.methods})
    rows: list[dict[str, Any]] = []
    for task in judged:
        slices = dict.fromkeys(found[found["task"] == task]["slice"])
        for name in sorted(slices, key=_place):
            for model in frames.models:
                cell = cells.get((task, name, model), {})
                if cell or model in frames.study.models:
                    shown = TOGETHER.get(name, name)
                    rows.append({"task": task, "slice": shown, "model": model, **cell})
    rows += [{"task": task} for task in promised]
    columns = (
        Column("task", "Task"),
        Column("slice", "Transformation"),
        Column("model", "Model"),
        *(Column(method, f"{style.title(method)} %", Kind.RATE) for method in methods),
    )
    counted = found.assign(n=found["n_problems"])
    arms = counted.drop_duplicates(["model", "method", "seed", "task"])
    rest = f"No outputs of {', '.join(promised)} were judged. " if promised else ""
    caption = (
        "Robust pass@1: problems that pass under every seed of a transformation. 'Mean of "
        "transformations' weighs them equally; 'all of them passed' asks for every transformation "
        f"and seed at once. The paper does not say which of the two it sums up by. {rest}"
        f"{basis(frames, arms)}"
    )
    return Table(columns, tuple(rows), caption)


def _scores(frames: Frames) -> pd.DataFrame:
    scores = frames.scores
    return scores[scores["metric"] == METRIC]


def _place(name: str) -> tuple[int, str]:
    return (1 + list(TOGETHER).index(name), name) if name in TOGETHER else (0, name)


ROBUST = Need(
    "a judged task of perturbed prompts that is scored by transformation",
    lambda frames: not _scores(frames).empty,
)

view = View("Robust pass per transformation and size", 43, (ROBUST,), render, section="robustness")
