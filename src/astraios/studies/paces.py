"""How fast work went: trainings, generations and judgings that were measured, for estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from astraios.config import digest, identity
from astraios.files import read_json, read_records
from astraios.records import Calibration, Cost, RunKind
from astraios.runs import Run, find_runs
from astraios.training.config import TrainingConfig

__all__ = ["CALIBRATION", "Paces", "paces", "training_mark"]

CALIBRATION = "calibration.jsonl"


@dataclass(frozen=True)
class Training:
    """One measured training."""

    base_model: str
    method: str
    flops_per_s: float
    mark: str
    source: str


@dataclass(frozen=True)
class Paces:
    """What was measured, newest last."""

    trainings: tuple[Training, ...] = ()
    generations: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    """Base model, task -> seconds a completion, of each run."""
    judgings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Task -> seconds a completion, of each run."""

    def flops_per_s(self, config: TrainingConfig) -> tuple[float, str] | None:
        """Operations a second of such a training, and where that is known from.

        Of the same training if there is one, else of the same method on another base, else of any;
        the median of several.
        """
        mark = training_mark(config)
        kinds = (
            [t for t in self.trainings if t.mark == mark],
            [t for t in self.trainings if t.method == config.method],
            list(self.trainings),
        )
        for place, found in enumerate(kinds):
            if found:
                source = found[-1].source
                if place == 1:
                    source += f" of {found[-1].base_model}, by operations"
                elif place == 2:
                    source += " of other methods, by operations"
                return median(t.flops_per_s for t in found), source
        return None

    def seconds_a_completion(self, base_model: str, task: str) -> float | None:
        """Of generating for that base model and task, if that was measured."""
        found = self.generations.get((base_model, task))
        return median(found) if found else None

    def seconds_a_verdict(self, task: str) -> float | None:
        """Of judging one completion of the task, if that was measured."""
        found = self.judgings.get(task)
        return median(found) if found else None


def training_mark(config: TrainingConfig) -> str:
    """What the time of a training depends on: its config but for seed and learning rate."""
    known = identity(config)
    known.pop("seed")
    known["optimization"].pop("learning_rate")
    return digest(known)


def paces(root: Path, others: Iterable[Path] = ()) -> Paces:
    """What the study in `root`, and the run folders in and below `others`, have measured.

    Raises:
        MissingDataError: if one of `others` is no folder.
    """
    trainings: list[Training] = []
    generations: dict[tuple[str, str], list[float]] = {}
    judgings: dict[str, list[float]] = {}
    folders = [*others, *([root] if root.is_dir() else [])]
    for folder in folders:
        for line in read_records(folder / CALIBRATION, Calibration):
            rate = line.flops_per_token * line.tokens_per_s
            trainings.append(
                Training(line.base_model, line.method, rate, line.fingerprint, "calibration")
            )
        for run in find_runs(folder):
            _note(run, trainings, generations, judgings)
    return Paces(
        tuple(trainings),
        {key: tuple(values) for key, values in generations.items()},
        {key: tuple(values) for key, values in judgings.items()},
    )


def _note(
    run: Run,
    trainings: list[Training],
    generations: dict[tuple[str, str], list[float]],
    judgings: dict[str, list[float]],
) -> None:
    manifest, path = run.manifest, run.folder / "cost.json"
    config = manifest.config
    n_samples = manifest.counts.get("n_samples", 0)
    if manifest.kind is RunKind.JUDGE:
        judged = n_samples - manifest.counts.get("n_from_cache", 0)
        if judged > 0 and manifest.finished:
            begun, ended = map(datetime.fromisoformat, (manifest.started, manifest.finished))
            seconds = (ended - begun).total_seconds()
            judgings.setdefault(str(config.get("task")), []).append(seconds / judged)
        return
    if not path.is_file():
        return
    cost = read_json(path, Cost)
    if manifest.kind is RunKind.TRAIN and cost.flops and cost.wall_s:
        try:
            mark = training_mark(TrainingConfig.model_validate(config))
        except ValueError:  # of another version: its pace holds all the same
            mark = ""
        trainings.append(
            Training(
                str(config.get("base_model")),
                str(config.get("method")),
                cost.flops / cost.wall_s,
                mark,
                "recorded runs",
            )
        )
    elif manifest.kind is RunKind.GENERATE and n_samples:
        key = str(config.get("base_model")), str(config.get("task"))
        generations.setdefault(key, []).append(cost.wall_s / n_samples)
