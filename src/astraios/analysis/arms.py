"""Which run belongs to which arm of the study, and which run counts where there are several.

An *arm* is a base model, a method and a seed; an *evaluation* is an arm on one task. Everything is
read out of the manifests' configs: names of folders mean nothing, but for generations that were
imported without a config, which go by the name of their folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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


Of = tuple[Run, Arm]
"""A sealed run and what it is about."""


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


def arms(sealed: tuple[Run, ...]) -> tuple[Of, ...]:
    """Every run with its arm, in order; a judging is of the arm whose generation it lies in."""
    generated = {run.folder: run for run in sealed if run.manifest.kind == RunKind.GENERATE}
    return tuple((run, _arm(generated.get(run.folder.parent, run))) for run in sealed)


def _arm(run: Run) -> Arm:
    config = run.manifest.config
    kind = run.manifest.kind
    model = config.get("base_model") or config.get("model") or config.get("name")
    if kind in (RunKind.DATA, RunKind.PACK):  # of no model alone
        model = ""
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


@dataclass(frozen=True)
class Judged:
    """The evaluations that count, and what is to be said of the others."""

    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]


def evaluations(known: Iterable[Of]) -> Judged:
    """The latest judging of every arm and task, all of one task at one version: the newest.

    Numbers of two versions of a task do not compare, so they are never put side by side. Editions
    of a task are other tasks: where a study has several, each goes by `task@edition`.
    """
    known = tuple(known)
    generated = {run.folder: run for run, _ in known if run.manifest.kind == RunKind.GENERATE}
    found = []
    for run, arm in known:
        generate = generated.get(run.folder.parent)
        orphan = generate is None and (run.folder.parent / MANIFEST).exists()
        if run.manifest.kind == RunKind.JUDGE and not orphan:
            found.append(Evaluation(arm, run, generate))
    found = _by_edition(found)
    newest: dict[str, str] = {}
    for evaluation in found:
        task = evaluation.arm.task
        newest[task] = max(newest.get(task, ""), _version(evaluation), key=_numbers)
    current = [found_ for found_ in found if _version(found_) == newest[found_.arm.task]]
    latest: dict[Arm, Evaluation] = {}
    for evaluation in current:
        arm = evaluation.arm
        if arm not in latest or _age(latest[arm]) <= _age(evaluation):
            latest[arm] = evaluation
    outdated = {e.arm: e for e in found if e.arm not in latest}
    notes = []
    if n_older := len(found) - len(latest) - len(outdated):
        notes.append(
            f"{n_older} older judgings of an arm and task that was judged again are left out; "
            "the latest counts."
        )
    return Judged(tuple(latest.values()), (*notes, *_mixed(newest, found, outdated)))


def _by_edition(found: list[Evaluation]) -> list[Evaluation]:
    editions: dict[str, set[str]] = {}
    for evaluation in found:
        editions.setdefault(evaluation.arm.task, set()).add(_edition(evaluation))
    return [
        replace(e, arm=replace(e.arm, task=f"{e.arm.task}@{_edition(e)}"))
        if len(editions[e.arm.task]) > 1 and _edition(e)
        else e
        for e in found
    ]


def _version(evaluation: Evaluation) -> str:
    return str(evaluation.judge.manifest.config.get("task_version", ""))


def _edition(evaluation: Evaluation) -> str:
    """`clean-2` -> `clean`; a version without a name has none."""
    edition, dash, _ = _version(evaluation).partition("-")
    return edition if dash else ""


def _numbers(version: str) -> tuple[tuple[int, ...], str]:
    """Orders versions of one edition: `clean-2` before `clean-10`."""
    return tuple(map(int, re.findall(r"\d+", version))), version


def _mixed(
    newest: Mapping[str, str], found: list[Evaluation], outdated: Mapping[Arm, Evaluation]
) -> list[str]:
    """A sentence for every task of which some arm was judged at an older version only."""
    notes = []
    for task in dict.fromkeys(arm.task for arm in outdated):
        seen = sorted({_version(e) for e in found if e.arm.task == task}, key=_numbers)
        out = [f"{style.title(arm.method)} ({arm.model}, seed {arm.seed})"
               for arm in outdated if arm.task == task]  # fmt: skip
        named = ", ".join(out[:5]) + (f" and {len(out) - 5} more" if len(out) > 5 else "")
        notes.append(
            f"{task} was judged at several versions ({', '.join(seen)}), whose numbers do not "
            f"compare: only {newest[task]} counts, and {named} are left out; judge them again."
        )
    return notes


def _age(evaluation: Evaluation) -> tuple[str, str]:
    manifest = evaluation.judge.manifest
    return manifest.finished or manifest.started, manifest.fingerprint


def counted(root: Path, known: Iterable[Of], found: Iterable[Evaluation]) -> set[Path]:
    """Folders of the trainings that count: of one arm, the evaluated one, else the latest."""
    inputs = {name for e in found for name in e.samples.manifest.inputs.values()}
    chosen: dict[tuple[str, Arm], tuple[tuple[bool, str], Path]] = {}
    for run, arm in known:
        manifest = run.manifest
        if manifest.kind in (RunKind.TRAIN, RunKind.PRETRAIN):
            used = not inputs.isdisjoint((manifest.run_id, run.folder.relative_to(root).as_posix()))
            rank = ((used, manifest.finished or ""), run.folder)
            key = (manifest.kind, arm)
            chosen[key] = max(chosen.get(key, rank), rank)
    return {folder for _, folder in chosen.values()}
