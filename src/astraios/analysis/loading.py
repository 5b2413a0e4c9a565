"""Small files of run folders as data frames: manifests, training records, costs, scores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from astraios.analysis import style
from astraios.analysis.arms import Evaluation, Of
from astraios.errors import DataError
from astraios.files import read_json, read_records
from astraios.records import ArmFacts, Cost, RunKind, Score, Step
from astraios.runs import Run

KEYS = ("model", "method", "seed", "task")
ARM_FACTS = "arms.jsonl"


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame that has its columns even without rows."""
    return pd.DataFrame(rows, columns=pd.Index(columns))


def runs_of(root: Path, known: Iterable[Of]) -> pd.DataFrame:
    """One row a sealed run: what it is about, where it is, when it ran."""
    rows = [
        {
            "kind": str(run.manifest.kind),
            **asdict(arm),
            "folder": where(root, run),
            "run_id": run.manifest.run_id,
            "fingerprint": run.manifest.fingerprint,
            "sandbox": run.manifest.environment.get("sandbox", ""),
            "started": run.manifest.started,
            "finished": run.manifest.finished,
        }
        for run, arm in known
    ]
    columns = ("folder", "run_id", "fingerprint", "sandbox", "started", "finished")
    return _frame(rows, ("kind", *KEYS, *columns))


def steps_of(known: Iterable[Of], counted: set[Path]) -> pd.DataFrame:
    """Training records of the runs that count."""
    rows = []
    for run, arm in known:
        if run.folder in counted:
            keys = {"kind": str(run.manifest.kind), **{key: getattr(arm, key) for key in KEYS[:3]}}
            rows += [{**keys, **step.model_dump()} for step in run.read("metrics", Step)]
    return _frame(rows, ("kind", *KEYS[:3], *Step.model_fields))


def costs_of(root: Path, known: Iterable[Of], counted: set[Path]) -> pd.DataFrame:
    """One row a run that has a cost; `counted` says whether it is a training that counts."""
    rows = []
    for run, arm in known:
        path = run.folder / "cost.json"
        if path.exists():
            cost = read_json(path, Cost).model_dump()
            keys = {"kind": str(run.manifest.kind), **asdict(arm), "counted": run.folder in counted}
            rows.append({**keys, **cost, "folder": where(root, run)})
    return _frame(rows, ("kind", *KEYS, "counted", *Cost.model_fields, "folder"))


def scores_of(evaluations: tuple[Evaluation, ...]) -> pd.DataFrame:
    """One row a score, as the task computed it.

    Raises:
        DataError: if a file holds no list of scores.
    """
    rows = []
    for evaluation in evaluations:
        path = evaluation.judge.folder / "scores.json"
        if not path.exists():
            continue
        try:
            scores = [Score.model_validate(value) for value in json.loads(path.read_bytes())]
        except (ValueError, TypeError):
            raise DataError(
                f"{path}: not a list of scores; remove {str(path.parent)!r} and judge again"
            ) from None
        keys = asdict(evaluation.arm)
        rows += [{**score.model_dump(), **keys} for score in scores]
    names = tuple(name for name in Score.model_fields if name not in KEYS)
    return _frame(rows, (*KEYS, *names))


def sizes_of(costs: pd.DataFrame) -> dict[str, int]:
    """Base model -> its parameters, where a cost says so."""
    sizes: dict[str, int] = {}
    known = costs[costs["total_parameters"] > 0]
    for model, rows in known.groupby("model"):
        whole = rows[(rows["kind"] == RunKind.PRETRAIN) | (rows["method"] == style.FULL)]
        added = rows[(rows["kind"] == RunKind.TRAIN) & (rows["method"] != style.FULL)]
        if len(whole):
            sizes[str(model)] = int(whole["total_parameters"].iloc[0])
        elif len(added):  # totals include what the method added
            sizes[str(model)] = int(
                (added["total_parameters"] - added["trainable_parameters"]).min()
            )
    return sizes


def facts_of(root: Path) -> tuple[ArmFacts, ...]:
    """What `root/arms.jsonl` says of models that were not trained here; nothing without it."""
    return tuple(read_records(root / ARM_FACTS, ArmFacts))


def where(root: Path, run: Run) -> str:
    """The run's folder, relative to the study's."""
    return run.folder.relative_to(root).as_posix()
