"""The cost ledger: what every method takes, from its training to its verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from astraios.analysis.captions import measured
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

PARAMETERS = (
    Column("method", "Method", Kind.METHOD),
    Column("seeds", "Seeds", Kind.COUNT),
    Column("trainable", "Trained", Kind.COUNT, "trainable parameters"),
    Column("share", "Share %", Kind.SHARE, "trainable parameters of all parameters"),
)
MEMORY = (
    Column("optimizer_mib", "Optimizer MiB", Kind.MIB_SMALL, "its state on one device"),
    Column("gradient_mib", "Gradients MiB", Kind.MIB_SMALL, "on one device"),
    Column("peak_mib", "Peak MiB", Kind.MIB, "of the process, or reserved on the first GPU"),
    Column("allocated_mib", "Tensors MiB", Kind.MIB, "peak of what tensors took of a GPU"),
    Column("tokens_per_s", "Tokens / s", Kind.COUNT, "trained tokens per wall second"),
)
REST = (
    Column("energy_wh", "Energy Wh", Kind.NUMBER, "a training, by the machine's meters"),
    Column("saved_kib", "Saved KiB", Kind.COUNT, "weights on disk"),
)
STAGES = {
    "train": ("Train", "a training"),
    "search": ("Search", "all trials of the learning rate"),
    "generate": ("Generate", "all tasks of a seed"),
    "judge": ("Judge", "all tasks of a seed, from start to end to the second"),
}
"""Stage -> its title and what its time is of."""
HOUR_S = 3600.0
OFTEN_UNREAD = frozenset({"allocated_mib", "energy_wh", "optimizer_mib", "gradient_mib"})
"""Columns that are left out where no run could read them; the caption says so."""


def render(frames: Frames) -> Table:
    """One row per model and method, means over seeds; memory is the highest of them."""
    found = {(row["model"], row["method"]): row for row in rows_of(frames.cost_ledger)}
    times = [name for stage in STAGES for name in (f"{stage}_wall_h", f"{stage}_device_h")]
    longest = frames.cost_ledger[times].max().max()
    unit, per_h = ("h", 1.0) if longest >= 1 else ("s", HOUR_S)
    clocks = list(_clocks(frames, unit))
    rows = [
        {
            "model": model,
            "method": method,
            **_row(found[model, method]),
            **_times(found[model, method], unit, per_h),
        }
        for model in frames.models
        for method in frames.methods
        if (model, method) in found
    ]
    every = (*PARAMETERS, *MEMORY, *clocks, *REST)
    unread = [
        column
        for column in every
        if column.key in OFTEN_UNREAD and all(row[column.key] is None for row in rows)
    ]
    columns = [column for column in every if column not in unread]
    if not any(row["seeds"] > 1 for row in rows):
        columns = [column for column in columns if column.key != "seeds"]
    if len({row["model"] for row in rows}) > 1:
        columns.insert(0, Column("model", "Model"))
    titles = ", ".join(column.title for column in unread)
    missing = f"Not measured on this machine: {titles}. " if unread else ""
    same = (
        "Device time, where it was recorded, is wall time: one device. "
        if not any(column.key.endswith(f"device_{unit}") for column in clocks)
        else "Device time is wall time times devices. "
    )
    caption = (
        "What every method takes: parameters, memory and speed of its training, then the wall time "
        "of each stage. Means over training seeds; memory is the highest of them. "
        f"{missing}{same}Runs that overlapped on one machine slowed each other down. "
        f"{measured(frames, len(frames.tunings), 'trainings')}"
    )
    return Table(tuple(columns), tuple(rows), caption)


def _clocks(frames: Frames, unit: str) -> Iterator[Column]:
    """Wall time of each stage that took any, and device time where it is another."""
    ledger = frames.cost_ledger
    for stage, (title, of) in STAGES.items():
        wall, device = ledger[f"{stage}_wall_h"], ledger[f"{stage}_device_h"]
        if wall.notna().any():
            yield Column(f"{stage}_wall_{unit}", f"{title} {unit}", Kind.HOURS, f"wall time, {of}")
        known = device.notna()
        if ((device - wall).abs()[known] > 0.01 * wall[known]).any():
            note = f"wall time times devices, {of}"
            yield Column(f"{stage}_device_{unit}", f"{title} device {unit}", Kind.HOURS, note)


def _times(row: dict[str, Any], unit: str, per_h: float) -> dict[str, float | None]:
    return {
        f"{stage}_{clock}_{unit}": _known(row[f"{stage}_{clock}_h"], 1 / per_h)
        for stage in STAGES
        for clock in ("wall", "device")
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    trainable, total = _known(row["trainable_parameters"]), _known(row["total_parameters"])
    return {
        "seeds": row["n_seeds"],
        "trainable": trainable,
        "share": trainable / total if trainable is not None and total else None,
        "optimizer_mib": _known(row["optimizer_mib"]),
        "gradient_mib": _known(row["gradient_mib"]),
        "peak_mib": _known(row["peak_mib"]),
        "allocated_mib": _known(row["peak_allocated_mib"]),
        "tokens_per_s": _known(row["tokens_per_s"]),
        "energy_wh": _known(row["energy_j"], HOUR_S),
        "saved_kib": _known(row["adapter_bytes"], 1024),
    }


def _known(value: float, unit: float = 1) -> float | None:
    return None if value != value else float(value) / unit


view = View("Cost ledger", 59, ("cost_ledger",), render, section="cost")
