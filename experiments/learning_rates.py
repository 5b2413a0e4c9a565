"""How the learning rates of the embedded study were chosen: on validation chains only.

    python experiments/learning_rates.py --out runs/rates              all methods, all rates
    python experiments/learning_rates.py --out runs/rates lora ia3     two of them

Tunes the quick preset's base model by each method at each rate and asks every tuned model the
problems of `minipack-validation`. Of the rates whose pass@1 lies within one standard error of the
best, the one with the lowest validation loss is chosen. Finished runs are not redone.
"""

from __future__ import annotations

import argparse
from math import sqrt
from pathlib import Path

from astraios import tasks
from astraios.evaluation.score import score
from astraios.files import read_records
from astraios.records import Step
from astraios.runs import is_done
from astraios.studies.presets import read_study
from astraios.studies.run import run_study
from astraios.studies.study import Study
from astraios.tasks import Task
from astraios.training.config import EMBEDDED
from astraios.training.pretrain import MODEL, pretrain

RATES = {
    "fft": (1e-3, 2e-3, 4e-3, 8e-3),
    "lora": (5e-3, 1e-2, 2e-2),
    "ptuning": (1e-3, 3e-3, 1e-2, 2e-2),
    "ia3": (3e-2, 1e-1, 3e-1),
    "adapterh": (5e-3, 1e-2, 2e-2),
    "adapterp": (1e-2, 2e-2, 4e-2, 8e-2),
    "parallel": (5e-3, 1e-2, 2e-2),
}
TASK = "minipack-validation"


def measure(method: str, rate: float, out: Path) -> tuple[float, float, int]:
    """Validation loss, pass@1 and number of problems of one method at one rate."""
    base = out / "base"
    if not is_done(base):
        pretrain(EMBEDDED["minipack-0.7m"], base)
    study = read_study(
        "embedded-quick",
        [
            f"name=rates-{method}-{rate:g}",
            f"base_models=[{base / MODEL}]",
            f"methods=[{method}]",
            f"tasks=[{TASK}]",
        ],
    )
    last = {"where": {"method": method}, "set": {"training.optimization.learning_rate": rate}}
    values = study.model_dump()
    study = Study.model_validate({**values, "overrides": [*values["overrides"], last]})
    root = out / study.name
    summary = run_study(study, root)
    if not summary.complete:
        raise SystemExit("\n".join(message for _, message in summary.failed))
    (train,) = root.glob(f"train/*/{method}/*/metrics.jsonl")
    losses = [s.validation_loss for s in read_records(train, Step) if s.validation_loss]
    (folder,) = root.glob(f"eval/*/{method}/*/*/judged-*")
    task: Task = tasks.task(TASK)  # type: ignore[type-arg]
    (overall,) = (s for s in score(task, folder) if s.slice == "all")
    return losses[-1], overall.value or 0.0, overall.n_problems


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("methods", nargs="*", default=list(RATES))
    parser.add_argument("--out", type=Path, default=Path("runs/rates"))
    options = parser.parse_args()
    print("| method | learning rate | validation loss | pass@1 % | chosen |")
    print("| --- | --- | --- | --- | --- |")
    for method in options.methods:
        found = {rate: measure(method, rate, options.out) for rate in RATES[method]}
        best = max(share for _, share, _ in found.values())
        n = next(iter(found.values()))[2]
        near = best - sqrt(best * (1 - best) / n)
        chosen = min((loss, rate) for rate, (loss, share, _) in found.items() if share >= near)[1]
        for rate, (loss, share, _) in found.items():
            mark = "yes" if rate == chosen else ""
            print(f"| {method} | {rate:g} | {loss:.3f} | {100 * share:.1f} | {mark} |", flush=True)


if __name__ == "__main__":
    main()
