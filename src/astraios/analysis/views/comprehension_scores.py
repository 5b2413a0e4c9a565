"""Yes/no tasks in numbers, the paper's reading beside one without its quirks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from astraios.analysis import comprehension
from astraios.analysis.captions import basis, one_seed
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View
from astraios.analysis.views.comprehension import ANSWERED
from astraios.analysis.views.scores import MARKS

COLUMNS = (
    Column("task", "Task"),
    Column("model", "Model"),
    Column("method", "Method", Kind.METHOD),
    Column("accuracy", "Accuracy %", Kind.RATE, "right answers; one that cannot be read is wrong"),
    Column("mark", "Against guessing", note="the 95 % interval of the paired difference"),
    Column("valid", "Valid %", Kind.PERCENT, "answers that could be read"),
    Column("paper_f1", "F1 of the paper %", Kind.PERCENT, "over the classes that occur (1)"),
    Column("f1", "F1 of two classes %", Kind.PERCENT, "over yes and no (1)"),
    Column(
        "by_letters", "Accuracy, all %", Kind.PERCENT, "on all problems, read as the paper does"
    ),
    Column("by_word", "by word %", Kind.PERCENT, "the same answers read by whole words (2)"),
    Column("mcc", "MCC", Kind.NUMBER, "correlation of answer and label; 0 for any guess"),
)
ALL, BY_WORD = "paper-all", "by-word"


def render(frames: Frames) -> Table:
    """One row a task, model and method of the study, holes as dashes."""
    scores = comprehension.judged(frames)
    parts = {
        "accuracy": comprehension.main_slice(scores, "accuracy"),
        "valid": comprehension.main_slice(scores, "valid-rate"),
        "paper_f1": comprehension.main_slice(scores, "f1-macro"),
        "f1": comprehension.main_slice(scores, "f1-macro-two-class"),
        "mcc": comprehension.main_slice(scores, "mcc"),
        "by_letters": _slice(scores, ALL),
        "by_word": _slice(scores, BY_WORD),
    }
    cells: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, part in parts.items():
        for row in rows_of(part.sort_values("seed", kind="stable")):
            cell = cells.setdefault((row["task"], row["model"], row["method"]), {})
            if name == "accuracy":
                cell.setdefault("accuracy", Range.of(row))
                cell.setdefault("mark", MARKS.get(row["against_chance"]))
                cell.setdefault("chance", row["chance"])
            else:
                cell.setdefault(name, None if pd.isna(row["value"]) else float(row["value"]))
    tasks = [
        f"{task}{shot}"
        for task in comprehension.pairs(frames)
        for shot in comprehension.SHOTS
        if f"{task}{shot}" in {*frames.study.tasks, *scores["task"]}
    ]
    rows = [
        {
            "task": comprehension.title(task),
            "model": model,
            "method": method,
            **cells.get((task, model, method), {}),
        }
        for task in tasks
        for model in frames.models
        for method in frames.methods
        if (task, model, method) in cells or _promised(frames, model, method)
    ]
    counted = parts["accuracy"].assign(n=lambda own: own["n_problems"])
    caption = (
        f"Yes/no tasks. {_guesses(tasks, cells)} (1) The paper averages F1 over the classes that "
        "occur, and one answer that cannot be read makes a third class with an F1 of 0: "
        f"{_of_f1(cells)} (2) The paper finds 'no' by letters, so 'know' and 'not' say no; "
        f"{_of_words(cells)} {one_seed(scores)}{basis(frames, counted)}"
    )
    return Table(COLUMNS, tuple(rows), caption)


def _slice(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    return scores[(scores["metric"] == "accuracy") & (scores["slice"] == name)]


def _promised(frames: Frames, model: str, method: str) -> bool:
    return model in frames.study.models and method in frames.study.methods


def _guesses(tasks: list[str], cells: dict[tuple[str, str, str], dict[str, Any]]) -> str:
    """What the most frequent answer gets, task by task."""
    said = []
    for task in tasks:
        levels = {
            f"{100 * cell['chance']:.2f}"
            for (name, _, _), cell in cells.items()
            if name == task and cell.get("chance") is not None
        }
        if levels:
            said.append(f"{' or '.join(sorted(levels))} % on {task}")
    return f"The more frequent answer throughout is right in {', '.join(said)}." if said else ""


def _of_f1(cells: dict[tuple[str, str, str], dict[str, Any]]) -> str:
    three = [
        (cell["f1"] - cell["paper_f1"], key)
        for key, cell in cells.items()
        if cell.get("paper_f1") is not None
        and cell.get("f1") is not None
        and abs(cell["f1"] - cell["paper_f1"]) > 1e-9
    ]
    if not three:
        return "here it makes no difference."
    difference, key = max(three)
    return (
        f"so it is in {len(three)} of {len(cells)} cells here, and over two classes F1 is up to "
        f"{100 * difference:.1f} points higher ({', '.join(key)})."
    )


def _of_words(cells: dict[tuple[str, str, str], dict[str, Any]]) -> str:
    changed = [
        (cell["by_word"] - cell["by_letters"], key)
        for key, cell in cells.items()
        if cell.get("by_word") is not None and cell.get("by_letters") is not None
    ]
    if not changed:
        return "no answer here was read so."
    difference, key = max(changed, key=lambda one: abs(one[0]))
    n = sum(abs(one) > 1e-9 for one, _ in changed)
    if not n:
        return f"read by word, accuracy on all problems is the same in all {len(changed)} cells."
    return (
        f"read by word, accuracy on all problems changes in {n} of {len(changed)} cells, the most "
        f"by {100 * difference:+.2f} points ({', '.join(key)})."
    )


view = View("Code comprehension in numbers", 52, (ANSWERED,), render, section="comprehension")
