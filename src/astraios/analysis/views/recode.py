"""Robust pass per transformation and model size, as ReCode reports it; one column a method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from astraios.analysis import style
from astraios.analysis.captions import basis, one_seed
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import Need, View
from astraios.records import Outcome

METRIC = "robust-pass@1"
REACHABLE = "problems to whose every variant some answer of some model is a program"
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
    reachable = _reachable(frames, judged)
    rows: list[dict[str, Any]] = []
    for task in judged:
        slices = dict.fromkeys(found[found["task"] == task]["slice"])
        for name in sorted(slices, key=_place):
            for model in frames.models:
                cell = cells.get((task, name, model), {})
                if cell or model in frames.study.models:
                    shown = TOGETHER.get(name, name)
                    most = {"reachable": reachable.get((task, name))}
                    rows.append({"task": task, "slice": shown, "model": model, **most, **cell})
    rows += [{"task": task} for task in promised]
    unreachable = any(share < 1 for share in reachable.values())
    columns = (
        *([Column("task", "Task")] if len({row["task"] for row in rows}) > 1 else []),
        Column("slice", "Transformation"),
        Column("model", "Model"),
        *([Column("reachable", "Reachable %", Kind.PERCENT, REACHABLE)] if unreachable else []),
        *(Column(method, f"{style.title(method)} %", Kind.RATE) for method in methods),
    )
    counted = found.assign(n=found["n_problems"])
    arms = counted.drop_duplicates(["model", "method", "seed", "task"])
    rest = f"No outputs of {', '.join(promised)} were judged. " if promised else ""
    caption = (
        f"Robust pass@1 on {', '.join(judged)}: problems that pass under every seed of a "
        "transformation. 'Mean of transformations' weighs them equally; 'all of them passed' asks "
        "for every transformation and seed at once. The paper does not say which of the two it "
        "sums up by. "
        f"{_of_broken(reachable)}{rest}{one_seed(found)}"
        f"{basis(frames, arms)}"
    )
    return Table(columns, tuple(rows), caption)


def _reachable(frames: Frames, tasks: list[str]) -> dict[tuple[str, str], float]:
    """Task and transformation -> share of problems without a variant that nothing can solve.

    Some released prompts are no Python, so no answer can make a program of them. That is told by
    the answers: nothing of any model compiles there, which with few models may be chance. One such
    variant makes its problem fail for every model.
    """
    import polars as pl

    by_variant = ["task", "slice", "group", "problem_id"]
    by_problem = by_variant[:3]
    broken = pl.col("outcome") == Outcome.COMPILE_ERROR.value
    judged = pl.col("outcome") != Outcome.FAULT.value
    variants = (
        frames.counts.filter(pl.col("task").is_in(tasks) & judged)
        .group_by(by_variant)
        .agg(hopeless=broken.all())
    )
    problems = variants.group_by(by_problem).agg(reachable=~pl.col("hopeless").any())
    shares = problems.group_by(by_problem[:2]).agg(pl.col("reachable").mean())
    return {(task, name): share for task, name, share in shares.iter_rows()}


def _of_broken(reachable: dict[tuple[str, str], float]) -> str:
    """What the numbers would be without the problems that no model can solve."""
    parts = [
        f"{name} of {task} (at most {100 * share:.1f} %; without them every rate is "
        f"{1 / share:.2f} times as high)"
        for (task, name), share in sorted(reachable.items())
        if 0 < share < 1
    ]
    if not parts:
        return ""
    return (
        "To some variants no answer of any model judged is a program, as where the perturbed "
        f"prompt is no Python itself; their problems are lost to all: {', '.join(parts)}. "
    )


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
