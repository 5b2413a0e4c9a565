"""pass@1 on clean and on perturbed prompts, and what is lost between them."""

from __future__ import annotations

import pandas as pd

from astraios.analysis.captions import basis
from astraios.analysis.comparison import ALL
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

COLUMNS = (
    Column("method", "Method", Kind.METHOD),
    Column("slice", "Perturbation"),
    Column("clean", "Clean %", Kind.RATE, "the same problems, prompt as it is"),
    Column("robust", "Perturbed %", Kind.RATE, "problems whose every variant passes"),
    Column("drop", "Drop", Kind.DIFFERENCE, "clean minus perturbed, points, seed by seed"),
    Column("relative", "Lost %", Kind.RATE, "drop as a share of the clean rate"),
)


def render(frames: Frames) -> Table:
    """One row per model, method and transformation; the last of a method takes all together."""
    found = frames.robustness
    columns = list(COLUMNS)
    if found["task"].nunique() > 1:
        columns.insert(0, Column("task", "Task"))
    if frames.several_models:
        columns.insert(0, Column("model", "Model"))
    rows = []
    for model in frames.models:
        for method in frames.methods:
            own = found[(found["model"] == model) & (found["method"] == method)]
            last = own["slice"] == ALL
            for _, row in [*own[~last].iterrows(), *own[last].iterrows()]:
                rows.append(
                    {
                        "model": model,
                        "method": method,
                        "task": row["task"],
                        "slice": "all together" if row["slice"] == ALL else row["slice"],
                        "clean": Range.of(row, "clean"),
                        "robust": Range.of(row),
                        "drop": Range.of(row, "drop"),
                        "relative": Range.of(row, "relative"),
                    }
                )
    caption = (
        "Robustness. A problem counts with its worst variant, as in ReCode; 'all together' needs "
        f"every variant solved. 'Clean' are the same prompts unperturbed, which may give a part "
        f"of the body. {basis(frames, found)} A negative drop is a gain.{_undropped(found)}"
    )
    return Table(tuple(columns), tuple(rows), caption)


def _undropped(found: pd.DataFrame) -> str:
    n = int((found["value"].notna() & found["drop"].isna()).sum())
    if not n:
        return ""
    return f" {n:,} of {len(found):,} rows have no drop: no seed has a result on both."


view = View("Robustness per perturbation", 41, ("robustness",), render, section="robustness")
