"""Every pair of methods on the headline task: who is ahead, by how much, and is it certain?"""

from __future__ import annotations

from astraios.analysis.captions import PAIRED
from astraios.analysis.comparison import LEVEL
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

COLUMNS: tuple[Column, ...] = (
    Column("ahead", "Ahead", Kind.METHOD),
    Column("behind", "Behind", Kind.METHOD),
    Column("difference", "Difference", Kind.DIFFERENCE, "paired over problems, points"),
    Column("p_value", "p", Kind.P_VALUE, "paired, two-sided"),
    Column("p_holm", "p (Holm)", Kind.P_VALUE, "adjusted over all pairs of one model"),
)


def render(frames: Frames) -> Table:
    """One row a pair, the better method first, largest difference on top."""
    found = frames.quality_pairs[frames.quality_pairs["task"] == frames.headline_task]
    rows = []
    for model in frames.models:
        own = found[(found["model"] == model) & found["value"].notna()]
        for _, pair in own.sort_values("value", key=abs, ascending=False).iterrows():
            turned = pair["value"] < 0
            ahead, behind = (pair["b"], pair["a"]) if turned else (pair["a"], pair["b"])
            low, high = (-pair["high"], -pair["low"]) if turned else (pair["low"], pair["high"])
            certain = bool(pair["p_holm"] < LEVEL)
            rows.append(
                {
                    "model": model,
                    "ahead": ahead,
                    "behind": behind,
                    "difference": Range(abs(pair["value"]), low, high, certain),
                    "p_value": float(pair["p_value"]),
                    "p_holm": float(pair["p_holm"]),
                }
            )
    columns = COLUMNS
    if found["model"].nunique() > 1:
        columns = (Column("model", "Model"), *COLUMNS)
    n_certain = sum(row["difference"].certain for row in rows)
    n = int(found["n"].max()) if len(found) else 0
    own_faults = frames.quality[frames.quality["task"] == frames.headline_task]["n_faults"]
    n_faults = int(own_faults.sum())
    caption = (
        f"Pairs of methods on {frames.headline_task}: {n_certain} of {len(rows)} differ with an "
        f"adjusted p-value below {LEVEL} ({PAIRED} over n = {n:,} problems, Holm over all "
        f"pairs of a model); differences with 95 % bootstrap intervals; {n_faults:,} "
        f"fault{'s' * (n_faults != 1)} left out. Pairs that do not differ here are not shown to be "
        "equal."
    )
    return Table(columns, tuple(rows), caption)


view = View(
    "Which methods differ", 15, ("quality_pairs", "several_methods"), render, section="quality"
)
