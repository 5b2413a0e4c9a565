"""How good, and how sure: intervals and paired differences from counts per problem.

The unit of chance is the *group*: a problem with all its variants. Samples of one problem, seeds of
one method and variants of one prompt are averaged (or, for robustness, taken at their worst) within
the group before anything is resampled, because they tell nothing new about other problems.
Intervals are 95 % percentile bootstraps over groups; they cover the draw of problems, not that of
training seeds, whose spread is therefore given beside them.

Differences are paired: both methods are resampled on the same groups. P-values of all pairs of
methods on one model and task are adjusted together (Holm 1979), which stays valid for the pair that
looks best after the fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from astraios.analysis import style
from astraios.analysis.columns import rows_of
from astraios.metrics import bootstrap_difference, bootstrap_mean
from astraios.records import Outcome, RunKind

LEVEL = 0.05
"""Differences with a smaller adjusted p-value are called certain."""

ALL = "all"
"""The slice of a robust task that takes all its transformations together."""

PROBLEM = ("model", "method", "seed", "task", "problem_id", "group", "slice")
IDENTITY = (style.FULL, "lora", "ia3")
"""Methods that leave the model as it is until the first step: they start at the base's loss."""


def problems(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts counted per arm, task and problem: `n` judged, `n_passed`, `n_faults`, `rate`.

    A fault is ours and never counts as a failure; where all samples are faults, `rate` is missing.
    """
    keys = list(PROBLEM)
    counted = verdicts[keys].assign(
        n=(verdicts["outcome"] != Outcome.FAULT).astype("int32"),
        n_passed=(verdicts["outcome"] == Outcome.PASSED).astype("int32"),
        n_faults=(verdicts["outcome"] == Outcome.FAULT).astype("int32"),
    )
    found = counted.groupby(keys, observed=True, sort=False).sum().reset_index()
    found["rate"] = found["n_passed"] / found["n"].where(found["n"] > 0)
    text = [key for key in keys if key != "seed"]
    return found.astype(dict.fromkeys(text, str))  # categories of two columns cannot be compared


def pass_rates(problems: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """pass@1 per model, method and task (and `by`), with its interval.

    Returns:
        Columns `value, low, high` (fractions), `n` (groups), `n_seeds`, `seed_low, seed_high` (the
        lowest and highest seed), `n_samples`, `n_faults`.
    """
    keys = ["model", "method", "task", *by]
    rows = []
    for key, cell in problems.groupby(keys, observed=True, sort=False):
        units = _units(cell)
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        per_seed = cell.groupby("seed", observed=True)["rate"].mean()
        row |= {
            **_interval(units),
            "n": len(units),
            "n_seeds": len(per_seed),
            "seed_low": per_seed.min(),
            "seed_high": per_seed.max(),
            "n_samples": int(cell["n"].sum()),
            "n_faults": int(cell["n_faults"].sum()),
        }
        rows.append(row)
    columns = ("value", "low", "high", "n", "n_seeds", "seed_low", "seed_high")
    return pd.DataFrame(rows, columns=pd.Index([*keys, *columns, "n_samples", "n_faults"]))


def pairs(problems: pd.DataFrame) -> pd.DataFrame:
    """Every pair of methods on every model and task: `a` minus `b` on the groups both have.

    Returns:
        Columns `model, task, a, b, value, low, high, p_value, p_holm, n, n_pairs`.
    """
    rows: list[dict[str, Any]] = []
    for (model, task), cell in problems.groupby(["model", "task"], observed=True, sort=False):
        units = {method: _units(cell[cell["method"] == method]) for method in set(cell["method"])}
        found: list[dict[str, Any]] = []
        for a, b in combinations(style.order(units), 2):
            both = pd.concat([units[a], units[b]], axis=1, join="inner")
            found.append(
                {
                    "model": model,
                    "task": task,
                    "a": a,
                    "b": b,
                    **_difference(both.iloc[:, 0], both.iloc[:, 1]),
                    "n": len(both),
                }
            )
        adjusted = holm([row["p_value"] for row in found])
        rows += [
            {**row, "p_holm": p, "n_pairs": len(found)}
            for row, p in zip(found, adjusted, strict=True)
        ]
    columns = ("model", "task", "a", "b", "value", "low", "high", "p_value", "n", "p_holm")
    return pd.DataFrame(rows, columns=pd.Index([*columns, "n_pairs"]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false claim at the level (Holm 1979).

    A missing p-value stays missing and is not counted.

        raw        0.01  0.04  0.03
        adjusted   0.03  0.06  0.06      3 x 0.01, 2 x 0.03, then no less than the one before
    """
    known = [place for place, p in enumerate(p_values) if not np.isnan(p)]
    known.sort(key=lambda place: p_values[place])
    adjusted = [float("nan")] * len(p_values)
    floor = 0.0
    for rank, place in enumerate(known):
        floor = min(1.0, max(floor, (len(known) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted


def difference(pairs: pd.DataFrame, model: str, task: str, a: str, b: str) -> pd.Series | None:
    """`a` minus `b` out of `pairs`, whichever way round it is stored; None if there is none."""
    here = pairs[(pairs["model"] == model) & (pairs["task"] == task)]
    found = here[(here["a"] == a) & (here["b"] == b)]
    if len(found):
        return found.iloc[0]
    found = here[(here["a"] == b) & (here["b"] == a)]
    if not len(found):
        return None
    row = found.iloc[0].copy()
    row["a"], row["b"] = a, b
    row["value"], row["low"], row["high"] = -row["value"], -row["high"], -row["low"]
    return row


def robustness(problems: pd.DataFrame, task: str, nominal_task: str) -> pd.DataFrame:
    """Perturbed against clean prompts, per transformation and for all of them together.

    A group counts with its worst variant, as in ReCode (Wang et al. 2022, arXiv:2212.10264): with
    one greedy sample a problem is solved robustly only if every variant of its prompt is. A group
    with a variant that could not be judged is left out. `clean` is the same arm's rate on the same
    groups as they stand in `nominal_task`, unperturbed.

    Returns:
        Columns `model, method, task, slice, value, low, high, clean, clean_low, clean_high, drop,
        drop_low, drop_high, relative` (share of the clean rate that is lost), `n, n_faults`.
    """
    rows: list[dict[str, Any]] = []
    here = problems[problems["task"] == task]
    nominal = problems[problems["task"] == nominal_task]
    nominal = nominal[nominal["problem_id"] == nominal["group"]]
    for (model, method), cell in here.groupby(["model", "method"], observed=True, sort=False):
        variants = cell[cell["group"] != cell["problem_id"]]
        if variants.empty:
            continue
        own = nominal[(nominal["model"] == model) & (nominal["method"] == method)]
        clean = _units(own[own["group"].isin(variants["group"].unique())])
        for name in (ALL, *sorted(variants["slice"].unique())):
            part = variants if name == ALL else variants[variants["slice"] == name]
            rates = part.groupby(["seed", "group"], observed=True)["rate"]
            worst = rates.agg(lambda rate: rate.min(skipna=False))
            units = worst.groupby("group", observed=True).mean().dropna()
            both = pd.concat([clean, units], axis=1, join="inner")
            drop = _difference(both.iloc[:, 0], both.iloc[:, 1])
            base = _interval(both.iloc[:, 0])
            row: dict[str, Any] = {"model": model, "method": method, "task": task, "slice": name}
            row |= {**_interval(units), **_named("clean", base), **_named("drop", drop)}
            row["relative"] = drop["value"] / base["value"] if base["value"] else float("nan")
            row |= {"n": len(units), "n_faults": int(part["n_faults"].sum())}
            rows.append(row)
    return pd.DataFrame(rows)


def _named(name: str, ends: dict[str, float]) -> dict[str, float]:
    return {name: ends["value"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}


def losses(steps: pd.DataFrame) -> pd.DataFrame:
    """Validation loss before and after tuning, per arm; the untuned base has the two equal.

    The base is not trained: its loss is that of a method which starts as the identity, at step 0.

    Returns:
        Columns `model, method, seed, start, final` (nats per target token), `n_steps`.
    """
    tuned = steps[(steps["kind"] == RunKind.TRAIN) & steps["validation_loss"].notna()]
    rows: list[dict[str, Any]] = []
    for (model, method, seed), run in tuned.groupby(["model", "method", "seed"], sort=False):
        run = run.sort_values("step", kind="stable")
        rows.append(
            {
                "model": model,
                "method": method,
                "seed": seed,
                "start": run["validation_loss"].iloc[0] if run["step"].iloc[0] == 0 else np.nan,
                "final": run["validation_loss"].iloc[-1],
                "n_steps": int(run["step"].iloc[-1]),
            }
        )
    columns = pd.Index(("model", "method", "seed", "start", "final", "n_steps"))
    found = pd.DataFrame(rows, columns=columns)
    for model in found["model"].unique():
        own = found[(found["model"] == model) & found["start"].notna()]
        known = set(own["method"])
        like = own[own["method"] == next((name for name in IDENTITY if name in known), "")]
        base = [
            {**row, "method": style.BASE, "final": row["start"], "n_steps": 0}
            for row in rows_of(like)
        ]
        if base:
            found = pd.concat([found, pd.DataFrame(base)], ignore_index=True)
    return found


# --- one number a group -----------------------------------------------------------------------


def _units(cell: pd.DataFrame) -> pd.Series:
    """Mean rate per group, over its problems and seeds; groups with faults only are left out."""
    per_problem = cell.groupby(["group", "problem_id"], observed=True)["rate"].mean()
    return per_problem.groupby("group", observed=True).mean().dropna().sort_index()


def _interval(units: pd.Series) -> dict[str, float]:
    if not len(units):
        return dict.fromkeys(("value", "low", "high"), float("nan"))
    found = bootstrap_mean(units.to_numpy(dtype="float64"))
    return {"value": found.value, "low": found.low, "high": found.high}


def _difference(a: pd.Series, b: pd.Series) -> dict[str, float]:
    if not len(a):
        return dict.fromkeys(("value", "low", "high", "p_value"), float("nan"))
    found = bootstrap_difference(a.to_numpy(dtype="float64"), b.to_numpy(dtype="float64"))
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
    }
