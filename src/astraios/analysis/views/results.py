"""The results table: quality, certainty, robustness and cost of every method."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from astraios.analysis import comparison, style
from astraios.analysis.captions import basis
from astraios.analysis.comparison import ALL
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.analysis.views import View

COLUMNS = (
    Column("method", "Method", Kind.METHOD),
    Column("trainable", "Trained", Kind.COUNT, "trainable parameters"),
    Column("share", "Share %", Kind.SHARE, "trainable parameters of all parameters"),
    Column("validation_loss", "Val. loss", Kind.NUMBER, "after tuning, nats per target token"),
    Column("pass", "Score %", Kind.RATE, "the task's own measure"),
    Column("over_base", "Δ base", Kind.DIFFERENCE, "paired difference to the untuned base, points"),
    Column("over_fft", "Δ FFT", Kind.DIFFERENCE, "paired difference to full tuning, points"),
    Column("robust", "Robust %", Kind.RATE, "solved under every perturbation of the prompt"),
    Column("cpu_s", "CPU s", Kind.SECONDS, "of tuning"),
    Column("peak_mib", "Peak MiB", Kind.MIB, "highest memory of tuning"),
)
MODEL = Column("model", "Model")
SEEDS = Column("seeds", "Seeds %", Kind.TEXT, "score of the lowest and the highest seed")


def render(frames: Frames) -> Table:
    """One row per model and method, holes included; differences with a star are certain."""
    task = frames.headline_task
    rates = frames.quality[frames.quality["task"] == task]
    metric = str(rates["metric"].iloc[0])
    rows = [_row(frames, model, method) for model, method in _cells(frames)]
    columns = [
        replace(column, title=f"{metric} %") if column.key == "pass" else column
        for column in COLUMNS
    ]
    if frames.several_seeds:
        columns.insert(5, SEEDS)
    if len(frames.models) > 1:
        columns.insert(0, MODEL)
    caption = (
        f"{metric} on {task}. {basis(frames, rates)} Differences are points, paired over problems; "
        "those with a star are certain: adjusted p < 0.05 (Holm, over all pairs). "
    )
    if len(frames.robustness):
        n = int(frames.robustness["n"].max())
        caption += (
            f"Robust: problems solved under all perturbations of the prompt, n = {n}; the table of "
            "robustness has the same prompts unperturbed. "
        )
    caption += "The base's loss is that before tuning. A dash is a cell without a result."
    return Table(tuple(columns), tuple(rows), caption)


def _cells(frames: Frames) -> list[tuple[str, str]]:
    """Models and methods that the study file promises or that some run is about."""
    promised = {(m, method) for m in frames.study.models for method in frames.study.methods}
    known = promised | set(zip(frames.runs["model"], frames.runs["method"], strict=True))
    return [cell for cell in product(frames.models, frames.methods) if cell in known]


def _row(frames: Frames, model: str, method: str) -> dict[str, Any]:
    task = str(frames.headline_task)
    rate = _only(frames.quality, model=model, method=method, task=task)
    robust = _robust(frames, model, method)
    cost = _tuning(frames, model, method)
    row: dict[str, Any] = {
        "model": model,
        "method": method,
        "validation_loss": _loss(frames, model, method),
        "pass": Range.of(rate),
        "seeds": _seeds(rate),
        "over_base": _over(frames, model, method, style.BASE),
        "over_fft": _over(frames, model, method, style.FULL),
        "robust": Range.of(robust),
        **cost,
    }
    if method == style.BASE:
        row |= {"trainable": 0, "share": 0.0}
    return row


def _only(frame: pd.DataFrame, **keys: str) -> pd.Series | None:
    if not len(frame):
        return None
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame.iloc[0] if len(frame) else None


def _robust(frames: Frames, model: str, method: str) -> pd.Series | None:
    return _only(frames.robustness, model=model, method=method, slice=ALL)


def _tuning(frames: Frames, model: str, method: str) -> dict[str, Any]:
    known = _only(frames.trainable, model=model, method=method)
    if known is None:
        return {}
    trainable = int(known["trainable_parameters"])
    found: dict[str, Any] = {"trainable": trainable}
    own = frames.tunings
    own = own[(own["model"] == model) & (own["method"] == method)]
    if not len(own):  # tuned elsewhere: what it took is not known
        whole = frames.sizes.get(model)
        return {**found, "share": trainable / whole if whole else None}
    total = float(own["total_parameters"].mean())
    return {
        **found,
        "share": trainable / total if total else None,
        "cpu_s": float(own["cpu_s"].mean()),
        "peak_mib": float(own["peak_mib"].max()),
    }


def _loss(frames: Frames, model: str, method: str) -> float | None:
    losses = frames.losses
    own = losses[(losses["model"] == model) & (losses["method"] == method)]
    return float(own["final"].mean()) if len(own) else None


def _over(frames: Frames, model: str, method: str, other: str) -> Range | None:
    if method == other:
        return None
    task = str(frames.headline_task)
    return Range.of(comparison.difference(frames.quality_pairs, model, task, method, other))


def _seeds(rate: pd.Series | None) -> str | None:
    if rate is None or rate["n_seeds"] < 2:
        return None
    return f"{100 * rate['seed_low']:.1f}–{100 * rate['seed_high']:.1f} ({rate['n_seeds']})"


view = View("Results", 10, ("quality", "headline_task"), render, section="quality")
