"""Which start of a bottleneck adapter trains better: the original's, or the identity?

    python benchmarks/adapter_init.py [--steps 120] [--seeds 3]

`bert` draws both matrices from N(0, 0.02), as the original; `zero` leaves the second at zero, so
that the tuned model starts as the base. An embedded base model is tuned on MiniPack by each of the
three methods with both, at three rates and several seeds; told is the validation loss after the
last step, and the difference of the two starts over seeds with its standard error.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev

from astraios.files import read_records
from astraios.records import Step
from astraios.training.config import EMBEDDED, Optimization, TrainingConfig
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.process import settle
from astraios.training.tune import tune

METHODS = ("adapterh", "adapterp", "parallel")
RATES = (3e-4, 1e-3, 3e-3)
STARTS = ("bert", "zero")
BASE = "minipack-0.4m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining", type=int, default=600, help="Steps of the base.")
    given = parser.parse_args()
    settle(1)
    print("| method | rate | bert | zero | zero - bert |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        recipe = EMBEDDED[BASE]
        shorter = recipe.optimization.model_copy(update={"n_steps": given.pretraining})
        pretrain(recipe.model_copy(update={"optimization": shorter}), root / "base")
        for method in METHODS:
            for rate in RATES:
                losses = {
                    start: [
                        last_loss(root, method, start, rate, seed, given.steps)
                        for seed in range(given.seeds)
                    ]
                    for start in STARTS
                }
                apart = [b - a for a, b in zip(losses["bert"], losses["zero"], strict=True)]
                error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
                print(
                    f"| {method} | {rate:g} | {mean(losses['bert']):.4f} "
                    f"| {mean(losses['zero']):.4f} | {mean(apart):+.4f} ± {error:.4f} |",
                    flush=True,
                )


def last_loss(root: Path, method: str, start: str, rate: float, seed: int, n_steps: int) -> float:
    config = TrainingConfig(
        base_model=BASE,
        method=method,
        method_options={"init_weights": start, "bottleneck_size": 64},
        n_examples=2_000,
        n_validation=128,
        optimization=Optimization(
            n_steps=n_steps,
            batch_size=16,
            learning_rate=rate,
            n_warmup_steps=12,
            validate_every=n_steps,
            log_every=n_steps,
        ),
        seed=seed,
    )
    folder = root / f"{method}-{start}-{rate}-{seed}"
    tune(config, folder, base=root / "base" / MODEL)
    records = read_records(folder / "metrics.jsonl", Step)
    return [s.validation_loss for s in records if s.validation_loss is not None][-1]


if __name__ == "__main__":
    main()
