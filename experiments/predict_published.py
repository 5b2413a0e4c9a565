"""How well the published models of three sizes foretell the fourth.

    python experiments/predict_published.py

Fits the laws of `astraios predict` to the published numbers of 1B, 3B and 7B and compares what they
say of 15B with what was measured. Only rates are published, not single problems, so redrawn
problems are drawn as binomial and independent between sizes, which widens the intervals.
"""

from __future__ import annotations

import sys

import numpy as np

from astraios.analysis.powerlaws import Series, score_laws
from astraios.analysis.published_numbers import published_numbers
from astraios.published import SIZES

MODELS = {size.base_model.rpartition("/")[2]: size.n_parameters for size in SIZES}
N_PROBLEMS = {"recode-format": 164}
N_OTHER = 2_000
"""Scored items of the yes/no tasks."""
N_REDRAWS = 2_000


def main() -> None:
    """One line a task, metric and slice of which all four sizes are known."""
    *small, largest = MODELS
    sizes = np.array([float(MODELS[model]) for model in small])
    out = sys.stdout.write
    out(
        "task             metric             slice               law      off  mean  within width\n"
    )
    for (task, metric, part), own in published_numbers().groupby(["task", "metric", "slice"]):
        random = np.random.default_rng(0)
        wide = own.pivot(index="method", columns="model", values="percent") / 100
        if not set(MODELS) <= set(wide.columns):
            continue
        n = N_PROBLEMS.get(str(task), N_OTHER)
        given, truth = [], {}
        for method, row in wide.dropna(subset=list(MODELS)).iterrows():
            score = row[small].to_numpy(dtype=np.float64)
            redrawn = random.binomial(n, score, size=(N_REDRAWS, len(small))) / n
            given.append(Series(str(method), sizes, score, redrawn, np.full(len(small), float(n))))
            truth[str(method)] = float(row[largest])
        if not given:
            continue
        laws = score_laws(given, float(MODELS[largest]))
        off = np.array([laws[m].value.value - value for m, value in truth.items()])
        held = sum(laws[m].value.low <= value <= laws[m].value.high for m, value in truth.items())
        width = np.mean([law.value.high - law.value.low for law in laws.values()])
        form = next(iter(laws.values())).form
        out(
            f"{task:<21} {metric:<17} {part:<18} {form:<6} {100 * np.abs(off).mean():5.1f} "
            f"{100 * off.mean():+5.1f}  {held} of {len(off)} {100 * width:5.1f}\n"
        )


if __name__ == "__main__":
    main()
