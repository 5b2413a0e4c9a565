"""Which run belongs to which arm of the study, and which run counts where there are several.

An *arm* is a base model, a method and a seed; an *evaluation* is an arm on one task. Everything is
read out of the manifests' configs: names of folders mean nothing, but for generations that were
imported without a config, which go by the name of their folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from astraios.analysis import style
from astraios.analysis.studyfile import short_name
from astraios.records import RunKind
from astraios.runs import MANIFEST, Run

IMPORTED = "imported"
"""The method of generations that came without one."""


@dataclass(frozen=True)
class Arm:
    """What a run is about; an empty method or task where that says nothing."""

    model: str
    method: str
    seed: int
    task: str


@dataclass(frozen=True)
class Evaluation:
    """One arm on one task: the run that judged it and, if it is there, the one that generated."""

    arm: Arm
    judge: Run
    generate: Run | None

    @property
    def samples(self) -> Run:
        """The run that holds the completions: imported ones lie with their verdicts."""
        return self.generate or self.judge


def arms(sealed: tuple[Run, ...]) -> list[Arm]:
    """The arm of every run, in order."""
    generated = {run.folder: run for run in sealed if run.manifest.kind == RunKind.GENERATE}
    return [_arm(generated.get(run.folder.parent, run)) for run in sealed]


def _arm(run: Run) -> Arm:
    config = run.manifest.config
    kind = run.manifest.kind
    model = config.get("base_model") or config.get("model") or config.get("name")
    if isinstance(model, Mapping):  # a pretraining config may spell its model out
        model = model.get("name")
    if not isinstance(model, str):
        model = re.sub(r"-[0-9a-f]{12}$", "", run.folder.name)
    # A generation without a method asked the base model as it is.
    default = {RunKind.GENERATE: style.BASE, RunKind.JUDGE: IMPORTED}.get(kind, "")
    seed = config.get("seed", 0)
    return Arm(
        short_name(model),
        str(config.get("method") or default),
        seed if isinstance(seed, int) else 0,
        str(config.get("task") or ""),
    )


def evaluations(sealed: tuple[Run, ...]) -> tuple[tuple[Evaluation, ...], int]:
    """The latest judging of every arm and task, and the number of older ones that are left out."""
    generated = {run.folder: run for run in sealed if run.manifest.kind == RunKind.GENERATE}
    latest: dict[Arm, Evaluation] = {}
    n_older = 0
    for run, arm in zip(sealed, arms(sealed), strict=True):
        generate = generated.get(run.folder.parent)
        orphan = generate is None and (run.folder.parent / MANIFEST).exists()
        if run.manifest.kind != RunKind.JUDGE or orphan:
            continue
        found = Evaluation(arm, run, generate)
        n_older += arm in latest
        if arm not in latest or _age(latest[arm]) <= _age(found):
            latest[arm] = found
    return tuple(latest.values()), n_older


def _age(evaluation: Evaluation) -> tuple[str, str]:
    manifest = evaluation.judge.manifest
    return manifest.finished or manifest.started, manifest.fingerprint


def mixed_versions(found: Iterable[Evaluation]) -> list[str]:
    """A sentence for every task that was not judged at one version throughout."""
    versions: dict[str, set[str]] = {}
    for evaluation in found:
        version = str(evaluation.judge.manifest.config.get("task_version", ""))
        versions.setdefault(evaluation.arm.task, set()).add(version)
    return [
        f"{task} was judged at several versions ({', '.join(sorted(seen))}): its numbers do not "
        "compare; judge the older ones again."
        for task, seen in versions.items()
        if len(seen) > 1
    ]


def counted(root: Path, sealed: tuple[Run, ...], found: Iterable[Evaluation]) -> set[Path]:
    """Folders of the trainings that count: of one arm, the evaluated one, else the latest."""
    inputs = {name for e in found for name in e.samples.manifest.inputs.values()}
    chosen: dict[tuple[str, Arm], tuple[tuple[bool, str], Path]] = {}
    for run, arm in zip(sealed, arms(sealed), strict=True):
        manifest = run.manifest
        if manifest.kind in (RunKind.TRAIN, RunKind.PRETRAIN):
            used = not inputs.isdisjoint((manifest.run_id, run.folder.relative_to(root).as_posix()))
            rank = ((used, manifest.finished or ""), run.folder)
            key = (manifest.kind, arm)
            chosen[key] = max(chosen.get(key, rank), rank)
    return {folder for _, folder in chosen.values()}
