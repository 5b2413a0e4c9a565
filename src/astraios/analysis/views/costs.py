"""The cost ledger: what every stage of every method took."""

from __future__ import annotations

from astraios.analysis.captions import measured
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

STAGES = ("pretrain", "pack", "train", "generate", "judge")
COLUMNS: tuple[Column, ...] = (
    Column("stage", "Stage"),
    Column("method", "Method", Kind.METHOD),
    Column("runs", "Runs", Kind.COUNT),
    Column("cpu_s", "CPU s", Kind.SECONDS, "summed over the runs"),
    Column("wall_s", "Wall s", Kind.SECONDS, "summed over the runs"),
    Column("n_tokens", "Tokens", Kind.COUNT, "summed over the runs"),
    Column("tokens_per_cpu_s", "Tokens / CPU s", Kind.COUNT),
    Column("peak_mib", "Peak MiB", Kind.MIB, "highest of the runs"),
    Column("adapter_kib", "Saved KiB", Kind.COUNT, "weights on disk, mean of the runs"),
)


def render(frames: Frames) -> Table:
    """One row per stage, model and method, and a total."""
    costs = frames.costs
    rows = []
    places = {name: place for place, name in enumerate(("", *frames.methods))}
    grouped = list(costs.groupby(["kind", "model", "method"], sort=False))
    grouped.sort(
        key=lambda item: (
            STAGES.index(item[0][0]) if item[0][0] in STAGES else len(STAGES),
            frames.models.index(item[0][1]) if item[0][1] in frames.models else 0,
            places.get(str(item[0][2]), len(places)),
        )
    )
    for (stage, model, method), own in grouped:
        cpu_s, n_tokens = float(own["cpu_s"].sum()), int(own["n_tokens"].sum())
        saved = float(own["adapter_bytes"].mean())
        rows.append(
            {
                "stage": stage,
                "model": model or None,
                "method": method or None,
                "runs": len(own),
                "cpu_s": cpu_s,
                "wall_s": float(own["wall_s"].sum()),
                "n_tokens": n_tokens or None,
                "tokens_per_cpu_s": n_tokens / cpu_s if n_tokens and cpu_s else None,
                "peak_mib": float(own["peak_mib"].max()) or None,
                "adapter_kib": saved / 1024 if saved else None,
            }
        )
    total_cpu_s = float(costs["cpu_s"].sum())
    rows.append(
        {
            "stage": "total",
            "runs": len(costs),
            "cpu_s": total_cpu_s,
            "wall_s": float(costs["wall_s"].sum()),
            "peak_mib": float(costs["peak_mib"].max()) or None,
        }
    )
    columns = COLUMNS
    if costs["model"].nunique() > 1:
        columns = (COLUMNS[0], Column("model", "Model"), *COLUMNS[1:])
    caption = (
        f"What the study cost: {total_cpu_s:,.0f} CPU seconds in {len(costs)} recorded runs. Each "
        "run measures its own process. Runs may have overlapped, so wall times do not add up to "
        f"the time one waited. {measured(frames, len(costs), 'runs')}"
    )
    return Table(columns, tuple(rows), caption)


view = View("Cost of every stage", 60, ("costs",), render, section="cost")
