"""How small a difference a benchmark can show, and how closely losses and scores go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from astraios.analysis import style
from astraios.metrics.association import KINDS
from astraios.metrics.paired import LEVEL, POWER, detectable_difference

ALL_MODELS = "all"
"""The model of correlations over the arms of all models."""

DETECTABLE = (
    "model", "task", "metric", "n", "n_pairs", "spread", "detectable", "detectable_adjusted",
    "level", "power",
)  # fmt: skip
CORRELATIONS = ("task", "metric", "model", "kind", "value", "low", "high", "p_value", "n")


def detectable(pairs: pd.DataFrame, metrics: dict[str, str]) -> pd.DataFrame:
    """The smallest true difference of two methods that each benchmark would find, of each model.

    A benchmark finds it with a chance of 80 % at the 5 % level, by a paired test. How much
    differences vary between problems is taken from the data: the median over the pairs of methods
    that differ on some problem. `detectable_adjusted` is for the level that Holm's method asks of
    the first of all pairs.

    Args:
        pairs: `Frames.quality_pairs`.
        metrics: task -> name of its primary metric.

    Returns:
        Columns `model, task, metric, n` (groups, the fewest of any pair), `n_pairs, spread,
        detectable, detectable_adjusted, level, power`. NaN where no pair differs on any problem:
        nothing is known then of how differences vary.
    """
    rows: list[dict[str, Any]] = []
    for (model, task), own in pairs.groupby(["model", "task"], sort=False):
        known = own[own["n"] > 1]
        spread = float(known[known["spread"] > 0]["spread"].median())
        n = int(known["n"].min()) if len(known) else int(own["n"].max())
        row = {"model": model, "task": task, "metric": metrics[str(task)], "n": n}
        n_pairs = int(own["n_pairs"].max())
        row |= {"n_pairs": n_pairs, "spread": spread, "level": LEVEL, "power": POWER}
        row["detectable"] = detectable_difference(spread, n)
        row["detectable_adjusted"] = detectable_difference(spread, n, level=LEVEL / max(1, n_pairs))
        rows.append(row)
    return pd.DataFrame(rows, columns=pd.Index(DETECTABLE))


def loss_correlations(losses: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Correlation of final validation loss with each task's primary metric over tuned models.

    A point is a model and method, seeds averaged; the untuned base is left out. Over all models a
    correlation is mostly that of size with both; the rows of single models hold size fixed.

    Returns:
        Columns `task, metric, model` (`all`, or one), `kind` ("pearson", "spearman", "kendall"),
        `value, low, high, p_value, n`; values are NaN with fewer than four points, or where losses
        or scores are all equal.
    """
    final = losses[losses["method"] != style.BASE].groupby(["model", "method"])["final"].mean()
    points = quality[quality["value"].notna()].merge(
        final.rename("loss").reset_index(), on=["model", "method"]
    )
    points = points[np.isfinite(points["loss"].astype(float))]  # no dtype without trainings
    rows: list[tuple[Any, ...]] = []
    for (task, metric), own in points.groupby(["task", "metric"], sort=False):
        scopes = [(ALL_MODELS, own)] if own["model"].nunique() > 1 else []
        scopes += [(str(model), part) for model, part in own.groupby("model", sort=False)]
        for scope, part in scopes:
            x, y = part["loss"].to_numpy("float64"), part["value"].to_numpy("float64")
            for kind, correlate in KINDS.items():
                found = correlate(x, y)
                ends = (
                    (found.value, found.low, found.high, found.p_value)
                    if found
                    else (float("nan"),) * 4
                )
                rows.append((task, metric, scope, kind, *ends, len(part)))
    return pd.DataFrame(rows, columns=pd.Index(CORRELATIONS))
