"""The cost ledger: what tuning with each method takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from astraios.analysis.captions import measured
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

COLUMNS = (
    Column("method", "Method", Kind.METHOD),
    Column("runs", "Trainings", Kind.COUNT),
    Column("trainable", "Trained", Kind.COUNT, "trainable parameters"),
    Column("share", "Share %", Kind.SHARE, "trainable parameters of all parameters"),
    Column("optimizer_mib", "Optimizer MiB", Kind.MIB_SMALL, "its state on one device"),
    Column("gradient_mib", "Gradients MiB", Kind.MIB_SMALL, "on one device"),
    Column("peak_mib", "Peak MiB", Kind.MIB, "of the process, or reserved on the first GPU"),
    Column("allocated_mib", "Tensors MiB", Kind.MIB, "peak of what tensors took of a GPU"),
    Column("tokens_per_s", "Tokens / s", Kind.COUNT, "trained tokens per wall second"),
    Column("wall", "Wall", Kind.HOURS, "a training"),
    Column("device", "Device", Kind.HOURS, "wall time times devices, a training"),
    Column("cpu", "CPU", Kind.HOURS, "a training"),
    Column("energy_wh", "Energy Wh", Kind.NUMBER, "a training, by the machine's meters"),
    Column("saved_kib", "Saved KiB", Kind.COUNT, "weights on disk"),
)
HOUR = 3600
"""Seconds of the longest training from which times are given in hours."""
UNREAD = ("allocated_mib", "energy_wh", "optimizer_mib", "gradient_mib", "device")
"""Columns that are left out where no run could read them; the caption says so."""


def render(frames: Frames) -> Table:
    """One row per model and method, means over seeds; memory is the highest of them."""
    tunings = frames.tunings
    grouped = dict(iter(tunings.groupby(["model", "method"], sort=False)))
    unit = ("h", 3600) if tunings["wall_s"].max() >= HOUR else ("s", 1)
    rows = [
        {"model": model, "method": method, **_row(grouped[model, method], unit)}
        for model in frames.models
        for method in frames.methods
        if (model, method) in grouped
    ]
    unread = [key for key in UNREAD if all(_unknown(row, key) for row in rows)]
    columns = [_in(column, unit[0]) for column in COLUMNS if column.key not in unread]
    if tunings["model"].nunique() > 1:
        columns.insert(0, Column("model", "Model"))
    names = [column.title for column in COLUMNS if column.key in unread]
    missing = f"Not measured on this machine: {', '.join(names)}. " if names else ""
    caption = (
        "What a training takes, by method: means over training seeds, memory the highest of them. "
        f"{missing}Runs that overlapped on one machine slowed each other down. "
        f"{measured(frames, len(tunings), 'trainings')}"
    )
    return Table(tuple(columns), tuple(rows), caption)


def _unknown(row: dict[str, Any], key: str) -> bool:
    return all(value is None for name, value in row.items() if name.startswith(key))


def _in(column: Column, unit: str) -> Column:
    """The column of a time with its unit in name and title; any other as it is."""
    if column.kind != Kind.HOURS:
        return column
    return replace(column, key=f"{column.key}_{unit}", title=f"{column.title} {unit}")


def _row(own: pd.DataFrame, unit: tuple[str, int]) -> dict[str, Any]:
    trainable, total = _mean(own["trainable_parameters"]), _mean(own["total_parameters"])
    return {
        "runs": len(own),
        "trainable": trainable,
        "share": trainable / total if trainable is not None and total else None,
        "optimizer_mib": _mean(own["optimizer_mib"]),
        "gradient_mib": _mean(own["gradient_mib"]),
        "peak_mib": _highest(own["peak_mib"]),
        "allocated_mib": _highest(own["peak_allocated_mib"]),
        "tokens_per_s": _mean(own["tokens_per_s"]),
        f"wall_{unit[0]}": _mean(own["wall_s"], unit[1]),
        f"device_{unit[0]}": _mean(own["device_s"], unit[1]),
        f"cpu_{unit[0]}": _mean(own["cpu_s"], unit[1]),
        "energy_wh": _mean(own["energy_j"], 3600),
        "saved_kib": _mean(own["adapter_bytes"], 1024),
    }


def _mean(values: pd.Series, unit: float = 1) -> float | None:
    known = pd.to_numeric(values).dropna()
    return float(known.mean()) / unit if len(known) else None


def _highest(values: pd.Series) -> float | None:
    known = pd.to_numeric(values).dropna()
    return float(known.max()) if len(known) else None


view = View("Cost of tuning", 59, ("tunings",), render, section="cost")
