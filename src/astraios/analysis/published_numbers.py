"""What is known of the paper's models from elsewhere: 595 numbers, in percent.

    regraded    computed from the published outputs (github.com/bigcode-project/astraios, commit
                c679bc5, folder `outputs`) by another grader
    figure      read off the plots of the repository's notebook; about half a point uncertain, one
                point where a marker is partly hidden

None is from the paper's tables. Numbers are facts; the plots are under the repository's licence
(MIT), the outputs under the terms of the StarCoder models (BigCode OpenRAIL-M).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

__all__ = ["KEYS", "published_numbers"]

KEYS = ["task", "metric", "slice", "model", "method"]
"""Columns that a number is told by: as in scores, and the base model's short name."""


@cache
def published_numbers() -> pd.DataFrame:
    """Columns of `KEYS`, `percent`, `origin` and `note`; not to be changed."""
    text = files("astraios.analysis").joinpath("published_numbers.csv")
    with text.open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)
