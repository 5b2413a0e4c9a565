"""Searches for learning rates: what was tried, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from astraios.analysis.arms import Of
from astraios.files import read_json, read_records
from astraios.records import ChosenRate, RunKind, Trial
from astraios.runs import Run

TRIALS, CHOSEN = "trials.jsonl", "chosen.json"
COLUMNS = (
    "model", "method", "rung", "learning_rate", "n_steps", "validation_loss", "diverged", "chosen",
    "how", "on",
)  # fmt: skip


def searches(known: Iterable[Of]) -> pd.DataFrame:
    """Every trial of every finished search, shortest trials first, then by rate.

    Returns:
        Columns `model, method, rung, learning_rate, n_steps, validation_loss` (NaN where the
        training diverged), `diverged` (what it said), `chosen` (the trial whose rate the trainings
        take), `how` and `on` (how rates are tried, and what decides).
    """
    rows: list[dict[str, Any]] = []
    for run, arm in known:
        path = run.folder / CHOSEN
        if run.manifest.kind != RunKind.SEARCH or not path.exists():  # an earlier rung of a search
            continue
        chosen = read_json(path, ChosenRate)
        trials = list(read_records(run.folder / TRIALS, Trial))
        last = max((trial.rung for trial in trials), default=0)
        for trial in sorted(trials, key=lambda trial: (trial.rung, trial.learning_rate)):
            won = trial.rung == last and trial.learning_rate == chosen.learning_rate
            row = {**trial.model_dump(exclude={"run"}), "model": arm.model, "method": arm.method}
            rows.append({**row, "chosen": won, "how": chosen.how, "on": chosen.on})
    found = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return found.astype({"validation_loss": "float64"})


def trial_folders(root: Path, sealed: tuple[Run, ...]) -> set[Path]:
    """Folders of trainings that only tried a rate: they are nobody's tuned models."""
    return {
        root / trial.run
        for run in sealed
        if run.manifest.kind == RunKind.SEARCH
        for trial in read_records(run.folder / TRIALS, Trial)
    }
