"""How small a difference between two methods each benchmark can show, and how many it did show."""

from __future__ import annotations

from astraios.analysis.columns import rows_of
from astraios.analysis.comparison import LEVEL
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

COLUMNS: tuple[Column, ...] = (
    Column("task", "Task"),
    Column("metric", "Metric"),
    Column("n", "n", Kind.COUNT, "problems that both methods of a pair have, the fewest"),
    Column("n_pairs", "Pairs", Kind.COUNT),
    Column("n_certain", "Differ", Kind.COUNT, "pairs with an adjusted p-value below 0.05"),
    Column("smallest", "Smallest found", Kind.PERCENT, "certain differences, points"),
    Column("detectable", "Detectable", Kind.PERCENT, "one comparison, 80 % power, points"),
    Column("adjusted", "Detectable, all pairs", Kind.PERCENT, "first of all pairs (Holm), points"),
)


def render(frames: Frames) -> Table:
    """One row per task and model."""
    pairs = frames.quality_pairs
    certain = pairs[pairs["p_holm"] < LEVEL]
    found = {
        key: (len(own), float(own["value"].abs().min()))
        for key, own in certain.groupby(["task", "model"], sort=False)
    }
    limits = {(row["task"], row["model"]): row for row in rows_of(frames.detectable)}
    rows = []
    for task in frames.tasks:
        for model in frames.models:
            row = limits.get((task, model))
            if row is None:
                continue
            n_certain, smallest = found.get((task, model), (0, None))
            rows.append(
                {
                    "model": model,
                    **{key: row[key] for key in ("task", "metric", "n", "n_pairs", "detectable")},
                    "n_certain": n_certain,
                    "smallest": smallest,
                    "adjusted": row["detectable_adjusted"],
                }
            )
    columns = COLUMNS
    if frames.several_models:
        columns = (COLUMNS[0], Column("model", "Model"), *COLUMNS[1:])
    n_pairs, n_differ = (sum(row[key] for row in rows) for key in ("n_pairs", "n_certain"))
    low, high = (f"{end(row['n'] for row in rows):,}" for end in (min, max))
    n_faults = int(frames.quality["n_faults"].sum())
    caption = (
        f"What can be told apart: {n_differ:,} of {n_pairs:,} pairs of methods differ with an "
        f"adjusted p-value below {LEVEL}. 'Detectable' is the smallest true difference that a "
        "paired comparison finds with 80 % power at the 5 % level, given how much the methods' "
        "differences vary between these problems; a smaller one is easily missed. "
        f"n = {low if low == high else f'{low} to {high}'} problems; planned differences, so "
        f"without an interval; {n_faults:,} fault{'s' * (n_faults != 1)} left out."
    )
    return Table(columns, tuple(rows), caption)


view = View(
    "What the benchmarks can tell apart",
    16,
    ("quality_pairs", "several_methods"),
    render,
    "quality",
)
