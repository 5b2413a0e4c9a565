"""What every method cost, stage by stage."""

from __future__ import annotations

import pandas as pd

from astraios.records import RunKind

TRAINING = {
    "trainable_parameters": "mean",
    "total_parameters": "mean",
    "gradient_mib": "mean",
    "optimizer_mib": "mean",
    "peak_mib": "max",
    "peak_allocated_mib": "max",
    "tokens_per_s": "mean",
    "energy_j": "mean",
    "adapter_bytes": "mean",
}
"""Column of the costs of trainings -> how seeds become one number."""
SUMS = ("wall_h", "device_h")
KEYS = ["model", "method"]
HOUR_S = 3600.0


def cost_ledger(
    costs: pd.DataFrame, runs: pd.DataFrame, trials: set[str], evaluated: set[str]
) -> pd.DataFrame:
    """One row a model and method, seeds averaged; what no run could measure is NaN.

    Args:
        costs: `Frames.costs`, with the folder of each run.
        runs: `Frames.runs`; a judging keeps no account, so it took what lies between its start and
            its end, to the second.
        trials: folders of trainings that only tried a learning rate.
        evaluated: folders of the runs that generated and judged what counts.

    Returns:
        Columns `model, method, n_seeds`; of a training `trainable_parameters, total_parameters,
        gradient_mib, optimizer_mib`, `peak_mib, peak_allocated_mib` (highest of the seeds),
        `tokens_per_s, energy_j, adapter_bytes`; and for each of `train, search, generate, judge`
        hours `<stage>_wall_h` and `<stage>_device_h`: of a seed, all tasks together; `search` is
        all trials of a method.
    """
    costs = costs.assign(**{name: _measured(costs[name]) for name in (*TRAINING, "wall_s")})
    counted = costs["counted"].eq(True)
    of = {
        "train": costs[(costs["kind"] == RunKind.TRAIN) & counted],
        "search": costs[costs["folder"].isin(trials)],
        "generate": costs[(costs["kind"] == RunKind.GENERATE) & costs["folder"].isin(evaluated)],
        "judge": _judged(runs[(runs["kind"] == RunKind.JUDGE) & runs["folder"].isin(evaluated)]),
    }
    everything = pd.concat([of["train"], of["generate"], of["judge"]])
    found = everything.drop_duplicates(KEYS)[KEYS].reset_index(drop=True)
    seeds = everything.groupby(KEYS, sort=False)["seed"].nunique().rename("n_seeds")
    found = found.merge(seeds.reset_index(), on=KEYS, how="left")
    trained = of["train"].groupby(KEYS, sort=False).agg(TRAINING).reset_index()
    found = found.merge(trained, on=KEYS, how="left")
    for stage, rows in of.items():
        found = found.merge(_hours(rows, stage), on=KEYS, how="left")
    return found


def _measured(values: pd.Series) -> pd.Series:
    """Without zeros: they are written where a run could not measure, and are no part of a mean."""
    numbers = values.astype("float64")
    return numbers.where(numbers > 0)


def _whole_sum(values: pd.Series) -> float:
    return float(values.sum(skipna=False))


def _judged(runs: pd.DataFrame) -> pd.DataFrame:
    ends = (
        pd.to_datetime(runs[end], utc=True, format="ISO8601") for end in ("started", "finished")
    )
    started, finished = ends
    took = (finished - started).dt.total_seconds()
    return runs[[*KEYS, "seed"]].assign(wall_s=took, device_s=float("nan"))


def _hours(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    hours = rows[[*KEYS, "seed"]].copy()
    hours[f"{stage}_wall_h"] = rows["wall_s"].astype("float64") / HOUR_S
    hours[f"{stage}_device_h"] = rows["device_s"].astype("float64") / HOUR_S
    names = [f"{stage}_{name}" for name in SUMS]
    # A seed of which one run was not measured has no sum.
    per_seed = hours.groupby([*KEYS, "seed"], sort=False)[names].agg(_whole_sum)
    return per_seed.groupby(level=[0, 1], sort=False).mean().reset_index()
