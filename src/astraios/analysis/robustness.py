"""Perturbed prompts against the prompts as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from astraios.analysis.comparison import NAN, Cell, Mask, cells, known_groups, seed_means
from astraios.analysis.reading import ALL
from astraios.analysis.tallies import ARM, to_pandas
from astraios.metrics import Floats, interval, seeded_means

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "model", "method", "task", "slice", "value", "low", "high", "clean", "clean_low", "clean_high",
    "drop", "drop_low", "drop_high", "relative", "relative_low", "relative_high", "n", "n_faults",
)  # fmt: skip


def robustness(
    worst: pl.DataFrame, problems: pd.DataFrame, task: str, nominal_task: str
) -> pd.DataFrame:
    """Perturbed against clean prompts, per transformation and for all of them together.

    A completion counts if it passes for every variant of its problem's prompt, as in ReCode (Wang
    et al. 2022, arXiv:2212.10264): with one greedy sample a problem is solved robustly only if
    every variant is. What was a fault for one variant is not counted. `clean` is the same arm's
    rate on the same groups as they stand in `nominal_task`, unperturbed.

    Args:
        worst: completions of variants taken together, `tallies.read_counts`.
        problems: `tallies.problems`.
        task: the one with variants.
        nominal_task: where its problems stand as they are.

    Returns:
        A row a model, method and transformation (and `all`): `value, low, high` (perturbed),
        `clean`, `drop` (clean minus perturbed, on the groups that have both) and `relative` (share
        of the clean rate that is lost), each with `_low, _high`; `n, n_faults`.
    """
    import polars as pl

    own = worst.filter(pl.col("task") == task).with_columns(
        value=pl.when(pl.col("n") > 0).then(pl.col("n_passed") / pl.col("n"))
    )
    perturbed = to_pandas(own.select(*ARM, "slice", "group", "value"))
    nominal = problems[problems["task"] == nominal_task]
    nominal = nominal[nominal["problem_id"] == nominal["group"]]
    nominal = nominal.rename(columns={"rate": "value"})
    clean = {cell.key[0]: cell for cell in cells(nominal, ("model",))}
    here = problems[(problems["task"] == task) & (problems["group"] != problems["problem_id"])]
    faults = here.groupby(["model", "method", "slice"], observed=True)["n_faults"].sum()
    rows: list[dict[str, Any]] = []
    for cell in cells(perturbed, ("model", "slice")):
        model, name = cell.key
        for method in cell.arms:
            own_faults = faults.loc[model, method]
            n_faults = int(own_faults.sum() if name == ALL else own_faults.loc[name])
            row = {"model": model, "method": method, "task": task, "slice": name}
            rows.append({**row, **_row(cell, clean.get(model), method), "n_faults": n_faults})
    return _ordered(pd.DataFrame(rows, columns=pd.Index(COLUMNS)))


def _row(perturbed: Cell, clean: Cell | None, method: str) -> dict[str, float]:
    after = perturbed.arms[method]
    before = np.full((1, len(perturbed.groups)), NAN)
    if clean is not None and method in clean.arms:
        before = clean.on(perturbed.groups, method)
    known = known_groups(after)
    both = np.asarray(known & known_groups(before))
    row = {"n": int(known.sum()), **dict.fromkeys(COLUMNS[4:16], NAN)}
    if known.any():
        drawn = seeded_means({method: after[:, known]})[:, 0]
        row |= _ends("value", drawn, _mean(after, known))
    if not both.any():
        return row
    # Equal names draw equal seeds: both are of the same tuned models.
    first = seeded_means({method: before[:, both]})[:, 0]
    then = seeded_means({method: after[:, both]})[:, 0]
    start, end = _mean(before, both), _mean(after, both)
    row |= _ends("clean", first, start)
    row |= _ends("drop", first - then, start - end)
    if start > 0:
        solved = first > 0  # a resample of unsolved problems says nothing of a relative loss
        row |= _ends("relative", 1 - then[solved] / first[solved], 1 - end / start)
    return row


def _mean(arm: Floats, groups: Mask) -> float:
    return float(seed_means(arm)[groups].mean())


def _ends(name: str, drawn: Floats, value: float) -> dict[str, float]:
    found = interval(drawn, value)
    prefix = "" if name == "value" else f"{name}_"
    return {name: found.value, f"{prefix}low": found.low, f"{prefix}high": found.high}


def _ordered(found: pd.DataFrame) -> pd.DataFrame:
    """By model and method as they came, all transformations together first."""
    order = found.assign(last=found["slice"] != ALL)
    for name in ("model", "method"):
        places = {value: place for place, value in enumerate(dict.fromkeys(found[name]))}
        order[name] = order[name].map(places)
    order = order.sort_values(["model", "method", "last", "slice"], kind="stable")
    return found.loc[order.index].reset_index(drop=True)
