"""What the whole study cost, stage by stage."""

from __future__ import annotations

from typing import Any

import pandas as pd

from astraios.analysis.captions import measured
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

STAGES = ("pretrain", "pack", "search", "train", "generate", "judge")
COLUMNS: tuple[Column, ...] = (
    Column("stage", "Stage"),
    Column("runs", "Runs", Kind.COUNT),
    Column("cpu_s", "CPU s", Kind.SECONDS, "summed over the runs"),
    Column("wall_s", "Wall s", Kind.SECONDS, "summed over the runs"),
    Column("n_tokens", "Tokens", Kind.COUNT, "summed over the runs"),
    Column("tokens_per_cpu_s", "Tokens / CPU s", Kind.COUNT),
    Column("peak_mib", "Peak MiB", Kind.MIB, "highest of the runs"),
)


def render(frames: Frames) -> Table:
    """One row per stage, and a total; trials of a search are trainings."""
    costs = frames.costs
    stages = dict(iter(costs.groupby("kind", sort=False)))
    places = {stage: place for place, stage in enumerate(STAGES)}
    ordered = sorted(stages, key=lambda stage: (places.get(str(stage), len(places)), str(stage)))
    rows = [_row(str(stage), stages[stage]) for stage in ordered]
    total = _row("total", costs)
    rows.append({**total, "n_tokens": None, "tokens_per_cpu_s": None})  # of unlike kinds
    caption = (
        f"What the study cost: {total['cpu_s']:,.0f} CPU seconds in {len(costs)} recorded runs. "
        "Each run measures its own process. Runs may have overlapped, so wall times do not add up "
        f"to the time one waited. {measured(frames, len(costs), 'runs')}"
    )
    return Table(COLUMNS, tuple(rows), caption)


def _row(stage: str, own: pd.DataFrame) -> dict[str, Any]:
    cpu_s, n_tokens = float(own["cpu_s"].sum()), int(own["n_tokens"].sum())
    return {
        "stage": stage,
        "runs": len(own),
        "cpu_s": cpu_s,
        "wall_s": float(own["wall_s"].sum()),
        "n_tokens": n_tokens or None,
        "tokens_per_cpu_s": n_tokens / cpu_s if n_tokens and cpu_s else None,
        "peak_mib": float(own["peak_mib"].max()) or None,
    }


view = View("Cost of every stage", 60, ("costs",), render, section="cost")
