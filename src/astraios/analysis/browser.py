"""What the problem browser shows: prompts, completions and verdicts of single problems.

The page must stay small enough to open and to send, so problems are taken evenly from each task
until their completions fill a budget, and long texts are cut; both are said on the page. Equal
texts are stored once. Everything here is untrusted text: the page shows it as text and nothing
else (see `report.script_json`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astraios.analysis import style
from astraios.analysis.arms import Evaluation
from astraios.analysis.columns import read_columns
from astraios.analysis.frames import Frames
from astraios.records import ProblemCard, Prompt, Sample, Verdict

BUDGET_BYTES = 3_000_000
"""Roughly what the completions on the page may take."""
LONGEST = 6_000
"""Characters of one text that are kept."""
MOST_SAMPLES = 3
"""Completions of one problem and arm that are kept."""


@dataclass(frozen=True)
class Browser:
    """The data of the browser, and what was left out of it."""

    data: Mapping[str, Any]
    """Plain JSON; see `report.js` for its reader."""
    n_problems: int
    n_left_out: int
    note: str


def browser(frames: Frames, best: str | None = None, budget: int = BUDGET_BYTES) -> Browser | None:
    """Collect the problems; None if nothing was judged.

    The page opens with the untuned base (or the first method) beside `best`.
    """
    judged = _lowest_seeds(frames)
    if not judged or frames.problems.empty:
        return None
    texts = _Texts()
    problems: list[dict[str, Any]] = []
    n_left_out = 0
    names = list(dict.fromkeys((one.arm.model, one.arm.method) for one in judged))
    names.sort(key=lambda arm: (-frames.models.index(arm[0]), frames.methods.index(arm[1])))
    kept = {
        task: min(1.0, MOST_SAMPLES / max(1, int((own["n"] + own["n_faults"]).max())))
        for task, own in frames.problems.groupby("task")
    }
    weight = sum(_bytes(one) * kept.get(one.arm.task, 1.0) for one in judged)
    share = min(1.0, budget / max(1.0, weight))
    for number, task in enumerate(frames.tasks):
        own = {(one.arm.model, one.arm.method): one for one in judged if one.arm.task == task}
        chosen, n_all = _choose(frames, task, share)
        n_left_out += n_all - len(chosen)
        problems += _problems(number, own, names, chosen, texts)
    several = len({model for model, _ in names}) > 1
    data = {
        "tasks": list(frames.tasks),
        "arms": [
            {"title": f"{style.title(method)}, {model}" if several else style.title(method)}
            for model, method in names
        ],
        "texts": texts.all,
        "open": [0, next((n for n, (_, method) in enumerate(names) if method == best), 0)],
        "problems": problems,
    }
    note = _note(frames, len(problems), n_left_out, texts.n_cut)
    return Browser(data, len(problems), n_left_out, note)


def _note(frames: Frames, n_shown: int, n_left_out: int, n_cut: int) -> str:
    parts = [f"{n_shown:,} problems"]
    if n_left_out:
        parts.append(
            f"taken evenly from {n_shown + n_left_out:,}; the others are left out to keep the page "
            "small and lie in the run folders"
        )
    if frames.several_seeds:
        parts.append("the lowest seed of every method")
    most = int(frames.problems[["n", "n_faults"]].sum(axis=1).max())
    if most > MOST_SAMPLES * max(1, frames.problems["seed"].nunique()):
        parts.append(f"the first {MOST_SAMPLES} samples of a problem")
    if n_cut:
        parts.append(f"{n_cut:,} texts of more than {LONGEST:,} characters are cut")
    return "; ".join(parts) + "."


def _lowest_seeds(frames: Frames) -> list[Evaluation]:
    """The lowest seed of every model, method and task."""
    lowest: dict[tuple[str, str, str], Evaluation] = {}
    for evaluation in frames.evaluations:
        arm = evaluation.arm
        key = (arm.model, arm.method, arm.task)
        if key not in lowest or arm.seed < lowest[key].arm.seed:
            lowest[key] = evaluation
    return list(lowest.values())


def _bytes(arm: Evaluation) -> int:
    """Bytes on disk of an arm's completions: near enough what they take on the page."""
    return sum(path.stat().st_size for path in arm.samples.folder.glob("samples*.jsonl"))


def _choose(frames: Frames, task: str, share: float) -> tuple[list[str], int]:
    ids = frames.problems[frames.problems["task"] == task]["problem_id"]
    every = list(dict.fromkeys(ids))
    n_kept = max(1, int(len(every) * share)) if every else 0
    return [every[place * len(every) // n_kept] for place in range(n_kept)], len(every)


def _problems(
    task: int,
    arms: Mapping[tuple[str, str], Evaluation],
    names: list[tuple[str, str]],
    chosen: list[str],
    texts: _Texts,
) -> list[dict[str, Any]]:
    wanted = set(chosen)
    cards: dict[str, dict[str, Any]] = {}
    prompts: dict[str, str] = {}
    cells = {}
    for name, arm in arms.items():
        cells[name] = _cells(arm, wanted, texts)
        if not cards:
            cards = _cards(arm)
        if not prompts:
            prompts = _prompts(arm, wanted)
    found = []
    for problem in chosen:
        card = cards.get(problem, {})
        found.append(
            {
                "task": task,
                "id": problem,
                "title": card.get("title") or "",
                "slice": card.get("slice") or "",
                "prompt": texts.number(prompts.get(problem, "")),
                "reference": texts.number(card.get("reference") or ""),
                "tests": texts.number(card.get("tests") or ""),
                "cells": [cells.get(name, {}).get(problem) for name in names],
            }
        )
    return found


def _cells(arm: Evaluation, wanted: set[str], texts: _Texts) -> dict[str, list[Any]]:
    """Problem -> `[outcome, message, completion, finish]` per sample, texts by number."""
    said: dict[tuple[str, int], tuple[str, str]] = {}
    fields = ("problem_id", "index", "turn", "completion", "finish")
    columns = read_columns(arm.samples, "samples", Sample, fields, wanted)
    rows = sorted(zip(*columns.values(), strict=True), key=lambda row: row[2])
    for problem, index, _, completion, finish in rows:  # the last turn is what was judged
        said[problem, index] = completion, finish
    cells: dict[str, list[Any]] = {}
    decided = ("problem_id", "index", "outcome", "detail")
    columns = read_columns(arm.judge, "verdicts", Verdict, decided, wanted)
    for problem, index, outcome, detail in zip(*columns.values(), strict=True):
        own = cells.setdefault(problem, [])
        if len(own) >= MOST_SAMPLES:
            continue
        completion, finish = said.get((problem, index), ("", ""))
        own.append([outcome, texts.number(detail), texts.number(completion), finish])
    return cells


def _cards(arm: Evaluation) -> dict[str, dict[str, Any]]:
    fields = ("id", "title", "slice", "reference", "tests")
    columns = read_columns(arm.judge, "problems", ProblemCard, fields)
    rows = (dict(zip(fields, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return {row["id"]: row for row in rows}


def _prompts(arm: Evaluation, wanted: set[str]) -> dict[str, str]:
    columns = read_columns(arm.samples, "prompts", Prompt, ("problem_id", "turn", "text"), wanted)
    rows = zip(*columns.values(), strict=True)
    return {problem: text for problem, turn, text in rows if turn == 0}


class _Texts:
    """Every distinct text once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.n_cut = 0

    def number(self, text: str) -> int:
        """The number of `text` in `all`; long texts are cut first."""
        if len(text) > LONGEST:
            self.n_cut += 1
            text = f"{text[:LONGEST]}\n[... {len(text) - LONGEST:,} characters more]"
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def all(self) -> list[str]:
        return list(self._numbers)
