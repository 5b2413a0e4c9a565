"""What became of the completions: passed, failed, crashed, timed out, or our own fault."""

from __future__ import annotations

from itertools import product

from astraios.analysis.captions import sandbox
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View
from astraios.records import Outcome


def render(frames: Frames) -> Table:
    """One row per model, method and task; only outcomes that occur have a column."""
    keys = ["model", "task", "method"]
    verdicts = frames.outcomes
    counts = verdicts.groupby([*keys, "outcome"])["n"].sum().unstack(fill_value=0)
    seen = [outcome for outcome in Outcome if outcome in counts.columns]
    if Outcome.FAULT not in seen:  # always printed: its absence is a claim too
        seen.append(Outcome.FAULT)
    found = {tuple(row[key] for key in keys): row for row in rows_of(counts.reset_index())}
    rows = []
    for cell in product(frames.models, frames.tasks, frames.methods):
        if cell in found:
            own = {str(outcome): int(found[cell].get(outcome, 0)) for outcome in seen}
            row = dict(zip(keys, cell, strict=True))
            rows.append({**row, "samples": sum(own.values()), **own})
    columns = [
        Column("method", "Method", Kind.METHOD),
        Column("task", "Task"),
        Column("samples", "Samples", Kind.COUNT),
        *(Column(outcome, outcome.replace("_", " ").capitalize(), Kind.COUNT) for outcome in seen),
    ]
    if frames.several_models:
        columns.insert(0, Column("model", "Model"))
    n = int(verdicts["n"].sum())
    n_faults = int(verdicts[verdicts["outcome"] == Outcome.FAULT]["n"].sum())
    caption = (
        f"What became of the completions, all seeds together: n = {n:,}; plain counts, without an "
        f"interval. A fault is a failure of the engine or the grader, never the model's: "
        f"{n_faults:,} here. "
        f"Sandbox: {sandbox(frames)}."
    )
    return Table(tuple(columns), tuple(rows), caption)


view = View("Outcomes in numbers", 50, ("outcomes",), render, section="outcomes")
