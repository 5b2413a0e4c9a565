"""Validation losses of arms, before and after tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from astraios.analysis import style
from astraios.analysis.columns import rows_of
from astraios.records import RunKind

IDENTITY = (style.FULL, "lora", "ia3")
"""Methods that leave the model as it is until the first step: they start at the base's loss."""


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
