"""How a study stands, read from its folder: while it runs, from any machine, without torch.

done       sealed
faults     sealed, but for samples that an engine or the sandbox failed on
running    begun, and a process holds its folder
stopped    begun, and nobody works on it: the next run goes on
failed     tried and not done; `failures.jsonl` has the message
waiting    not begun
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from astraios.records import JobFailure, PlannedJob, RunKind
from astraios.runs import MANIFEST, read_manifest
from astraios.studies import failures
from astraios.studies.changes import read_plan

__all__ = ["STATES", "JobState", "arm_of", "counts", "status"]

STATES = ("done", "faults", "running", "stopped", "failed", "waiting")


@dataclass(frozen=True)
class JobState:
    """One job and how it stands."""

    id: str
    kind: str
    label: str
    state: str
    arm: str
    """Base model, method and seed, `minipack-0.7m lora seed0`; `shared` for what several use."""
    progress: str = ""
    """How far a running one is: `120 of 250 steps`."""
    message: str = ""
    """What a failed one said; how many faults another has."""
    when: str = ""
    """When a failed one failed."""


def status(root: Path, planned: Iterable[PlannedJob] | None = None) -> list[JobState]:
    """The jobs of the study in the folder `root`, each after those it builds on.

    Args:
        root: the study's folder.
        planned: its jobs; by default as its `plan.jsonl` names them.

    Raises:
        MissingDataError: if it holds no plan.
        DataError: if a file in it is damaged, or of a newer version.
    """
    listed = read_plan(root) if planned is None else planned
    failed = failures.read(root)
    return [_state(root, job, failed) for job in listed]


def counts(jobs: Iterable[JobState], by: str) -> dict[str, dict[str, int]]:
    """Value of the field `by` (`kind`, `arm`) -> how many of its jobs are in each state."""
    found: dict[str, Counter[str]] = {}
    for job in jobs:
        found.setdefault(str(getattr(job, by)), Counter())[job.state] += 1
    return {key: {state: n[state] for state in STATES} for key, n in found.items()}


def _state(root: Path, job: PlannedJob, failed: Mapping[str, JobFailure]) -> JobState:
    folder = root / job.id
    state, progress, message, when = "waiting", "", "", ""
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        n_faults = int(manifest.counts.get("n_faults", 0))
        if manifest.status == "done":
            state, message = ("faults", f"{n_faults} faults") if n_faults else ("done", "")
        else:
            state = "running" if _held(folder) else "stopped"
            progress = _progress(folder, job.kind, manifest.config)
    if job.id in failed and state in ("waiting", "stopped"):
        state, message, when = "failed", failed[job.id].message, failed[job.id].when
    return JobState(job.id, str(job.kind), job.label, state, arm_of(job), progress, message, when)


def arm_of(job: PlannedJob) -> str:
    """The arm that a job is of, by its folder."""
    parts = job.id.split("/")
    if parts[0] == "train" and len(parts) == 4:
        return f"{parts[1]} {parts[2]} {parts[3].rsplit('-', 1)[0]}"
    if parts[0] == "eval" and len(parts) >= 5:
        return f"{parts[1]} {parts[2]} {parts[3]}"
    if parts[0] == "search" and len(parts) >= 3:
        return f"{parts[1]} {parts[2]} search"
    return "shared"


def _held(folder: Path) -> bool:
    """Whether somebody works on the folder, as far as can be told from here."""
    try:
        owner = json.loads((folder / ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(owner, dict) or "process" not in owner:
        return False
    if owner.get("host") != platform.node():
        return True
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError, TypeError):
        return True
    return True


def _progress(folder: Path, kind: RunKind, config: Mapping[str, object]) -> str:
    if kind in (RunKind.TRAIN, RunKind.PRETRAIN):
        plan = config.get("optimization")
        total = plan.get("n_steps") if isinstance(plan, Mapping) else None
        step = _last(folder / "metrics.jsonl").get("step")
        return f"{step} of {total} steps" if step is not None and total else ""
    name = {RunKind.GENERATE: "samples", RunKind.JUDGE: "verdicts"}.get(kind)
    if name is None:
        return ""
    try:
        with (folder / f"{name}.jsonl").open("rb") as lines:
            return f"{sum(1 for _ in lines):,} {name}"
    except OSError:
        return ""


def _last(path: Path) -> Mapping[str, object]:
    """The last whole record of a file, read from its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4_096))
            lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
        found = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
