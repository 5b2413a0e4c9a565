"""Perturbed prompts against the prompts as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from astraios.analysis.comparison import (
    NAN,
    Cell,
    Mask,
    cells,
    known_groups,
    seed_means,
    share_interval,
)
from astraios.analysis.reading import ALL
from astraios.analysis.tallies import ARM, to_pandas
from astraios.metrics import Floats, Interval, interval, seeded_means

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
    rate on the same groups as they stand in `nominal_task`, unperturbed; `drop` and `relative` are
    over the seeds that were asked both, and missing where there is none.

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
    found = cells(perturbed, ("model", "slice"))
    for model, parts in groupby(sorted(found, key=_model), key=_model):
        for method, name, values in _rows(list(parts), clean.get(model)):
            own_faults = faults.loc[model, method]
            n_faults = int(own_faults.sum() if name == ALL else own_faults.loc[name])
            row = {"model": model, "method": method, "task": task, "slice": name}
            rows.append({**row, **values, "n_faults": n_faults})
    return _ordered(pd.DataFrame(rows, columns=pd.Index(COLUMNS)))


def _model(cell: Cell) -> str:
    return str(cell.key[0])


def _rows(parts: list[Cell], clean: Cell | None) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Method, transformation and numbers of one model; what has equal groups is drawn at once."""
    wanted: dict[tuple[str, str], tuple[_Arm, _Arm, _Arm]] = {}
    for cell in parts:
        for method, after in cell.arms.items():
            before = paired = np.full((1, len(cell.groups)), NAN)
            clean_seeds = clean.seeds.get(method, ()) if clean is not None else ()
            common = [seed for seed in cell.seeds[method] if seed in clean_seeds]
            if clean is not None and common:
                before = clean.on(cell.groups, method, common)
                paired = cell.on(cell.groups, method, common)
            known = known_groups(after)
            both = np.asarray(known_groups(paired) & known_groups(before))
            wanted[method, cell.key[1]] = (
                _Arm(method, cell.groups, after, known),
                _Arm(method, cell.groups, before, both),
                _Arm(method, cell.groups, paired, both),
            )
    drawn = _drawn([arm for arms in wanted.values() for arm in arms])
    for (method, name), arms in wanted.items():
        yield method, name, _row(*arms, drawn)


@dataclass(frozen=True, eq=False)
class _Arm:
    """Values of a method, of which the groups in `mask` count."""

    method: str
    groups: tuple[str, ...]
    values: Floats
    mask: Mask

    @property
    def mean(self) -> float:
        return float(seed_means(self.values)[self.mask].mean())

    @property
    def names(self) -> tuple[str, ...]:
        """The groups that count."""
        return tuple(group for group, counts in zip(self.groups, self.mask, strict=True) if counts)


def _drawn(arms: list[_Arm]) -> dict[_Arm, Floats]:
    """Resampled means. Equal names draw equal seeds: before and after are of the same models."""
    alike: dict[tuple[str, ...], list[_Arm]] = {}
    for arm in arms:
        if arm.mask.any():
            alike.setdefault(arm.names, []).append(arm)
    found: dict[_Arm, Floats] = {}
    for same in alike.values():
        means = seeded_means([(arm.method, arm.values[:, arm.mask]) for arm in same])
        found.update(zip(same, means.T, strict=True))
    return found


def _row(
    perturbed: _Arm, before: _Arm, after: _Arm, drawn: Mapping[_Arm, Floats]
) -> dict[str, float]:
    row: dict[str, float] = {"n": int(perturbed.mask.sum()), **dict.fromkeys(COLUMNS[4:16], NAN)}
    if perturbed in drawn:
        row |= _ends("value", share_interval(drawn[perturbed], perturbed.mean))
    if before not in drawn:
        return row
    first, then, start, end = drawn[before], drawn[after], before.mean, after.mean
    row |= _ends("clean", share_interval(first, start))
    row |= _ends("drop", interval(first - then, start - end))
    if start > 0:
        solved = first > 0  # a resample of unsolved problems says nothing of a relative loss
        row |= _ends("relative", interval(1 - then[solved] / first[solved], 1 - end / start))
    return row


def _ends(name: str, found: Interval) -> dict[str, float]:
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
