"""Scores of tasks that are answered with yes or no, as the comprehension views show them.

A task `x` is asked alone and, as `x-oneshot`, behind one answered example. The paper scores a
sample of each (slice `paper-sample`); where that is not there, as in the clean protocol, the slice
that has everything counts.
"""

from __future__ import annotations

import pandas as pd

from astraios.analysis.frames import Frames

__all__ = ["ONE_SHOT", "SHOTS", "TITLES", "judged", "main_slice", "pairs", "title"]

ONE_SHOT = "-oneshot"
SHOTS = ("", ONE_SHOT)
"""What the names of a pair of tasks end in."""
TITLES = {"devign": "Defect detection", "bigclonebench": "Clone detection"}
SLICES = ("paper-sample", "clean-all", "paper-all")
"""Which slice a task's number is that of, the first that there is."""


def judged(frames: Frames) -> pd.DataFrame:
    """All scores of yes/no tasks."""
    scores = frames.scores
    names = scores[(scores["metric"] == "accuracy") & scores["chance"].notna()]["task"].unique()
    return scores[scores["task"].isin(names)]


def main_slice(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `metric` on the slice that counts, one an arm and task."""
    own = scores[(scores["metric"] == metric) & scores["slice"].isin(SLICES)]
    rank = own["slice"].map(SLICES.index)
    order = own.assign(rank=rank).sort_values("rank", kind="stable")
    return order.drop_duplicates(["model", "method", "seed", "task"]).drop(columns="rank")


def pairs(frames: Frames) -> tuple[str, ...]:
    """Tasks without an example that were judged, or whose pair with one was."""
    found = judged(frames)["task"].unique()
    order = {task: place for place, task in enumerate(frames.study.tasks)}
    named = sorted(found, key=lambda task: (order.get(task, len(order)), task))
    return tuple(dict.fromkeys(task.removesuffix(ONE_SHOT) for task in named))


def title(task: str) -> str:
    """What a task is called over a figure: `Defect detection, one example`."""
    plain = task.removesuffix(ONE_SHOT)
    shown = TITLES.get(plain, plain)
    return f"{shown}, one example" if task.endswith(ONE_SHOT) else shown
