"""Studies whose truth is known: every cell has a true score, every sample is drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

SIZES = {"s": 1_000_000, "m": 3_000_000, "l": 9_000_000}
METHODS = ("base", "fft", "lora", "ia3", "adapterh", "adapterp", "parallel")
SHARE = {
    "fft": 1.0,
    "lora": 0.003,
    "ia3": 0.0002,
    "adapterh": 0.03,
    "adapterp": 0.015,
    "parallel": 0.015,
}
"""Trained parameters per parameter of the model."""
KINDS = {"synthesize": "pass", "fix": "pass"}

Rate = Callable[[str, str, str], float]
"""True score of a model and method on a task."""


@dataclass
class Made:
    """What claims, recommendations and predictions read of `Frames`."""

    units: pd.DataFrame
    kinds: Mapping[str, str]
    sizes: Mapping[str, int]
    losses: pd.DataFrame
    trainable: pd.DataFrame
    problems: pd.DataFrame
    quality: pd.DataFrame
    costs: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.kinds)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.units["model"]), key=lambda m: (self.sizes.get(m, 0), m)))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.units["method"]))

    @property
    def tunings(self) -> pd.DataFrame:
        return self.costs[self.costs["kind"] == "train"]

    @property
    def generations(self) -> pd.DataFrame:
        return self.costs[self.costs["kind"] == "generate"]

    @property
    def runs(self) -> pd.DataFrame:
        return pd.DataFrame({"kind": ["judge"], "sandbox": ["namespaces"]})

    @property
    def outcomes(self) -> pd.DataFrame:
        keys = ["model", "method", "seed", "task"]
        return self.units.groupby(keys).size().rename("n").reset_index()

    def task_kind(self, task: str) -> str:
        return self.kinds[task]

    def nominal_task(self, task: str) -> str:
        return task


def made(
    rate: Rate,
    *,
    sizes: Mapping[str, int] | None = None,
    methods: tuple[str, ...] = METHODS,
    kinds: Mapping[str, str] | None = None,
    n_seeds: int = 2,
    n: int = 300,
    loss: Rate | None = None,
    clean: Rate | None = None,
    chance: float = float("nan"),
    seed_spread: float = 0.005,
    number: int = 0,
) -> Made:
    """Draw a study; `clean` is the rate of perturbed tasks without the perturbation."""
    sizes, kinds = dict(SIZES if sizes is None else sizes), dict(KINDS if kinds is None else kinds)
    random = np.random.default_rng(number)
    units, problems, losses = [], [], []
    for task, kind in kinds.items():
        hard = random.normal(0, 1.0, n)  # shared by all arms, as it is in truth
        for model in sizes:
            for method in methods:
                for seed in range(1 if method == "base" else n_seeds):
                    moved = random.normal(0, seed_spread)
                    where = {"model": model, "method": method, "seed": seed, "task": task}
                    values = drawn(random, rate(model, method, task) + moved, hard)
                    units.append(rows(where, values))
                    if kind == "robust" and clean:
                        values = drawn(random, clean(model, method, task), hard)
                        problems.append(rows(where, values))
    for model in sizes:
        for method in methods:
            for seed in range(n_seeds if method != "base" and loss else 0):
                final = loss(model, method, "") + random.normal(0, 0.002)
                losses.append({"model": model, "method": method, "seed": seed, "final": final})
    unit_frame = pd.concat(units, ignore_index=True)
    columns = ["model", "method", "seed", "task", "group", "value"]
    blank = pd.DataFrame(columns=columns)
    problem_frame = pd.concat(problems, ignore_index=True) if problems else blank
    problem_frame = problem_frame.rename(columns={"value": "rate"})
    problem_frame["problem_id"] = problem_frame["group"]
    return Made(
        unit_frame,
        kinds,
        sizes,
        pd.DataFrame(losses, columns=["model", "method", "seed", "final"]),
        pd.DataFrame(
            [
                {"model": m, "method": a, "trainable_parameters": SHARE.get(a, 0.01) * size}
                for m, size in sizes.items()
                for a in methods
                if a != "base"
            ]
        ),
        problem_frame,
        quality_of(unit_frame, kinds, chance),
        costs_of(unit_frame, sizes),
    )


def drawn(random: np.random.Generator, rate: float, hard: np.ndarray) -> np.ndarray:
    """Passes of a sample a problem: as many as `rate`, the easy ones sooner."""
    if not 0 < rate < 1:
        return np.full(len(hard), float(np.clip(round(rate), 0, 1)))
    ease = hard + random.normal(0, 0.7, len(hard))
    from scipy.stats import norm

    return (ease < norm.ppf(rate) * np.sqrt(1 + 0.49)).astype(float)


def rows(where: dict[str, Any], values: np.ndarray) -> pd.DataFrame:
    groups = [f"{where['task']}/{i}" for i in range(len(values))]
    return pd.DataFrame({**where, "group": groups, "value": values})


def quality_of(units: pd.DataFrame, kinds: Mapping[str, str], chance: float) -> pd.DataFrame:
    found = units.groupby(["model", "method", "task"])["value"].agg(["mean", "std", "count"])
    found = found.reset_index().rename(columns={"mean": "value", "count": "n"})
    wide = 1.96 * found["std"] / np.sqrt(found["n"])
    guessed = [
        chance if kinds[task] == "classification" else float("nan") for task in found["task"]
    ]
    ends = {"low": found["value"] - wide, "high": found["value"] + wide}
    return found.assign(**ends, n_faults=0, chance=guessed)


def costs_of(units: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Of every training and generation; what is trained and how long it takes goes with size."""
    found = []
    for row in units[["model", "method", "seed", "task"]].drop_duplicates().to_dict("records"):
        size, share = sizes[row["model"]], SHARE.get(row["method"], 0.01)
        memory = size / 1e4 * (1 + 3 * share)
        slow = 1.3 if row["method"] in ("adapterh", "parallel") else 1.0
        both = {"peak_mib": memory, "wall_s": size / 1e3 * slow, "n_tokens": size}
        found.append({**row, "kind": "generate", **both})
        if row["method"] != "base":
            found.append({**row, "task": "", "kind": "train", **both})
    return pd.DataFrame(found).drop_duplicates(ignore_index=True)


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    """Draws a study with a known truth."""
    return made
