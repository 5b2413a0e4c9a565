"""Every metric that suits a task, of every model and method on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from astraios import registry
from astraios.analysis import metrics
from astraios.analysis.metrics import Judged, Measure, Metric
from astraios.analysis.reading import ALL
from astraios.analysis.tallies import UNDECIDED, Kind
from astraios.metrics import Floats, bootstrap_means, interval
from astraios.records import Outcome

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("model", "method", "task", "metric", "value", "low", "high", "n", "n_seeds", "chance")
CELL = ["model", "method", "task"]


def measured(counts: pl.DataFrame, worst: pl.DataFrame, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """One row a model, method, task and metric; contributions of problems are averaged over seeds.

    Returns:
        Columns `model, method, task, metric, value, low, high` (95 % percentile bootstrap over
        problems), `n` (problems that count), `n_seeds, chance` (NaN where guessing has no rate).
    """
    found = {name: registry.load(metrics, "metric", name) for name in registry.names(metrics)}
    rows: list[tuple[Any, ...]] = []
    for (model, method, task), seeds in _arms(counts, worst, kinds):
        for metric in found.values():
            if metric.applies_to(str(kinds[task])):
                for measure, n_seeds in _pooled(metric, seeds):
                    rows.append((model, method, task, measure.name, *_row(measure, n_seeds)))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _row(measure: Measure, n_seeds: int) -> tuple[float, ...]:
    nan = float("nan")
    parts = measure.parts[np.isfinite(measure.parts).all(axis=1)]
    n = len(parts)
    if not n:
        return nan, nan, nan, 0, n_seeds, nan
    value = float(measure.value(parts.sum(0)))
    chance = measure.chance(parts.sum(0)) if measure.chance else nan
    if np.isnan(value):
        return value, nan, nan, n, n_seeds, chance
    drawn = measure.value(n * bootstrap_means(parts))
    drawn = drawn[np.isfinite(drawn)]  # a resample without a valid answer has no such number
    ends = interval(drawn, value)
    return value, ends.low, ends.high, n, n_seeds, chance


def _pooled(metric: Metric, seeds: list[Judged]) -> Iterator[tuple[Measure, int]]:
    """The measures of all seeds as one: parts of a problem are averaged over the seeds it has."""
    by_name: dict[str, list[tuple[Judged, Measure]]] = {}
    for judged in seeds:
        for measure in metric.measures(judged):
            by_name.setdefault(measure.name, []).append((judged, measure))
    for own in by_name.values():
        measure = own[0][1]
        if len(own) > 1:
            frames = [pd.DataFrame(m.parts, index=pd.Index(j.problems)) for j, m in own]
            parts = pd.concat(frames).groupby(level=0, sort=False).mean().to_numpy("float64")
            measure = Measure(measure.name, parts, measure.value, measure.chance)
        yield measure, len(own)


def _arms(
    counts: pl.DataFrame, worst: pl.DataFrame, kinds: Mapping[str, Kind]
) -> Iterator[tuple[tuple[str, str, str], list[Judged]]]:
    """Model, method and task, and the verdicts of each seed."""
    import polars as pl

    kept = counts.filter(pl.col("slice") != UNDECIDED)
    robust = worst.filter(pl.col("slice") == ALL)
    variants = robust.partition_by(*CELL, "seed", as_dict=True, maintain_order=True)
    found: dict[tuple[str, str, str], list[Judged]] = {}
    for key, own in kept.partition_by(*CELL, "seed", as_dict=True, maintain_order=True).items():
        model, method, task = map(str, key[:3])
        is_robust = kinds[task] is Kind.ROBUST
        judged = _robust(variants.get(key)) if is_robust else _judged(own)
        if judged is not None:
            found.setdefault((model, method, task), []).append(judged)
    yield from found.items()


def _judged(own: pl.DataFrame) -> Judged:
    places: dict[str, int] = {}
    names = own["problem_id"].to_list()
    for name in names:
        places.setdefault(name, len(places))
    rows = np.array([places[name] for name in names])
    found: dict[tuple[Outcome, str | None], Floats] = {}
    kinds = list(zip(own["outcome"].to_list(), own["expected"].to_list(), strict=True))
    n = own["n"].to_numpy().astype(np.float64)
    for outcome, expected in dict.fromkeys(kinds):
        here = np.array([kind == (outcome, expected) for kind in kinds])
        column = np.zeros(len(places))
        np.add.at(column, rows[here], n[here])
        found[Outcome(outcome), expected] = column
    return Judged(tuple(places), found, np.zeros((0, 2)))


def _robust(own: pl.DataFrame | None) -> Judged | None:
    if own is None:
        return None
    robust = own.select("n", "n_passed").to_numpy().astype(np.float64)
    return Judged(tuple(own["group"].to_list()), {}, robust)
