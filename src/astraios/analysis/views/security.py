"""How many completions are valid, and how many of those have a flaw, per CWE."""

from __future__ import annotations

import pandas as pd

from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import Need, View

VALID = "valid-rate"
INSECURE = "insecure-rate"
ALL = "all"
COLUMNS = (
    Column("method", "Method", Kind.METHOD),
    Column("task", "Task"),
    Column("slice", "CWE"),
    Column("valid", "Valid %", Kind.RATE, "completions that compile or parse"),
    Column("insecure", "Insecure %", Kind.RATE, "of the valid ones, those with a flaw"),
    Column("n_problems", "Scenarios", Kind.COUNT),
    Column("n_samples", "Decided", Kind.COUNT, "valid completions that a check decided"),
    Column("n_faults", "Faults", Kind.COUNT),
    Column("marker", "Decided by", note="the analyser that looks for flaws"),
    Column("caveat", "Read as", note="why the number is a hint and no measurement"),
)
SEED = Column("seed", "Seed", Kind.COUNT)


def rates(frames: Frames) -> pd.DataFrame:
    """Scores that are insecure or valid rates, with `what` and `marker` split from their names."""
    scores = frames.scores
    own = scores[scores["metric"].str.endswith((VALID, INSECURE))].copy()
    own["what"] = [VALID if metric.endswith(VALID) else INSECURE for metric in own["metric"]]
    own["marker"] = [
        metric.removesuffix(what).removesuffix("-") or "reference"
        for metric, what in zip(own["metric"], own["what"], strict=True)
    ]
    return own


def render(frames: Frames) -> Table:
    """One row per model, method, seed, task, marker and CWE; all CWEs together come first."""
    found = rates(frames)
    arm = ["model", "method", "seed", "task", "slice"]
    valid = {tuple(row[key] for key in arm): row for row in rows_of(found[found["what"] == VALID])}
    rows = []
    for row in rows_of(found[found["what"] == INSECURE]):
        key = tuple(row[name] for name in arm)
        beside = valid.get(key)
        rows.append(
            {
                **{name: row[name] for name in arm},
                "valid": beside and Range.of(beside),
                "insecure": Range.of(row),
                "n_problems": row["n_problems"],
                "n_samples": row["n_samples"],
                "n_faults": row["n_faults"],
                "marker": row["marker"],
                "caveat": row["caveat"] or None,
            }
        )
    methods, models = list(frames.methods), list(frames.models)
    rows.sort(
        key=lambda row: (
            models.index(row["model"]),
            frames.tasks.index(row["task"]) if row["task"] in frames.tasks else 0,
            row["marker"],
            row["slice"] != ALL,
            row["slice"],
            methods.index(row["method"]),
            row["seed"],
        )
    )
    columns = list(COLUMNS)
    if found["seed"].nunique() > 1:
        columns.insert(1, SEED)
    if frames.several_models:
        columns.insert(0, Column("model", "Model"))
    whole = found[(found["what"] == INSECURE) & (found["slice"] == ALL)]
    caption = (
        "Security. 'Insecure' counts only valid completions, so a method that writes little that "
        "compiles is judged on little; read it beside 'Valid'. An analyser misses flaws and sees "
        "some that are none: differences mean more than levels, and where its precision or recall "
        "was measured to be low the row says so. "
        f"{basis(frames, whole.rename(columns={'n_problems': 'n'}))}"
    )
    return Table(tuple(columns), tuple(rows), caption)


SCORED = Need(
    "a judged security task",
    lambda frames: bool(frames.scores["metric"].astype(str).str.endswith(INSECURE).any()),
)

view = View("Valid and insecure completions per CWE", 42, (SCORED,), render, section="security")
