"""HumanEvalPack as the paper tables it: every model and method on every task and language."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from astraios.analysis import comparison
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import Need, View

KINDS = {
    "humanevalsynthesize": "Synthesize",
    "humanevalfixtests": "Fix",
    "humanevalfixdocs": "Fix (docs)",
    "humanevalexplainsynthesize": "Explain",
}
LANGUAGES = {
    "python": "Python",
    "java": "Java",
    "js": "JavaScript",
    "cpp": "C++",
    "go": "Go",
    "rust": "Rust",
}
NAME = re.compile(rf"(?P<kind>{'|'.join(KINDS)})-(?P<language>{'|'.join(LANGUAGES)})")

STRAY = ("humanevalfixtests-python", "Python/142")
"""In the data of 2023 a quote stood behind the declaration of this problem, and so in every answer
to it: none of them is a Python program."""
ORIGINAL = "original"
"""How the versions of tasks begin that read the data of 2023."""


def render(frames: Frames) -> Table:
    """One row a model and method of the study, holes as dashes."""
    tasks = _tasks(frames)
    rates = frames.pass_rates[frames.pass_rates["task"].isin(tasks)]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows_of(rates):
        cells.setdefault((row["model"], row["method"]), {})[row["task"]] = Range.of(row)
    columns = [Column("model", "Model"), Column("method", "Method", Kind.METHOD)]
    note = ""
    for task in tasks:
        columns.append(Column(task, f"{_title(task)} %", Kind.RATE, task))
        if task == STRAY[0] and _has_stray(frames):
            without = _without(frames, *STRAY)
            for row in rows_of(without):
                cells[row["model"], row["method"]]["without"] = float(row["value"])
            title = f"· without {STRAY[1]} %"
            columns.append(Column("without", title, Kind.PERCENT, "see the caption"))
            note = _of_stray(rates[rates["task"] == task], without)
    rows = [
        {"model": model, "method": method, **cells.get((model, method), {})}
        for model in frames.models
        for method in frames.methods
        if (model, method) in cells
        or (model in frames.study.models and method in frames.study.methods)
    ]
    n_all = len(rows) * len(tasks)
    n_empty = n_all - sum(task in row for row in rows for task in tasks)
    missing = f"{n_empty} of {n_all} cells have no answers and are dashes. " if n_empty else ""
    caption = f"HumanEvalPack, pass@1. {missing}{note}{basis(frames, rates)}"
    return Table(tuple(columns), tuple(rows), caption)


def _tasks(frames: Frames) -> list[str]:
    """Tasks of the benchmark that were judged or are promised: by language, then by kind."""
    found = [match for name in _names(frames) if (match := NAME.fullmatch(name))]
    kinds, languages = list(KINDS), list(LANGUAGES)
    found.sort(key=lambda m: (languages.index(m["language"]), kinds.index(m["kind"])))
    return [match.group() for match in found]


def _names(frames: Frames) -> dict[str, None]:
    promised = (task.partition("@")[0] for task in frames.study.tasks)
    return dict.fromkeys([*frames.pass_tasks, *promised])


def _title(task: str) -> str:
    match = NAME.fullmatch(task)
    assert match is not None
    return f"{KINDS[match['kind']]} {LANGUAGES[match['language']]}"


def _has_stray(frames: Frames) -> bool:
    """Whether answers to the problem with the quote were judged."""
    task, problem = STRAY
    own = frames.problems[frames.problems["task"] == task]
    if problem not in set(own["problem_id"]):
        return False
    versions = {
        str(one.judge.manifest.config.get("task_version", ""))
        for one in frames.evaluations
        if one.arm.task == task
    }
    return any(version.startswith(ORIGINAL) for version in versions)


def _without(frames: Frames, task: str, problem: str) -> pd.DataFrame:
    """pass@1 of `task` where one problem is left out."""
    own = frames.problems[
        (frames.problems["task"] == task) & (frames.problems["problem_id"] != problem)
    ]
    return comparison.pass_rates(own)


def _of_stray(rates: pd.DataFrame, without: pd.DataFrame) -> str:
    keys = ["model", "method"]
    both = rates.merge(without, on=keys, suffixes=("", "_without"))
    most = (both["value_without"] - both["value"]).max()
    n = int(rates["n"].max())
    return (
        f"{STRAY[1]} had a stray quote in the data of 2023, which is a part of every answer to "
        f"it, so none can pass: without that problem the numbers of {_title(STRAY[0])} are up to "
        f"{100 * most:.2f} points higher, and a method that always solves it loses "
        f"{100 / n:.2f} points. "
    )


PACK = Need(
    "a judged task of HumanEvalPack",
    lambda frames: any(NAME.fullmatch(task) for task in frames.pass_tasks),
)

view = View("HumanEvalPack", 14, (PACK,), render, section="quality")
