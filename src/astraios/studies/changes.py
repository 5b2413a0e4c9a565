"""A study that changed after it began: what changed, what is still good, and what is not.

A job's folder is named after all that decides its numbers, so a job of the new plan whose folder is
there is the same job. What the new plan does not name is left over, and stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from astraios import files
from astraios.config import differing, fingerprint, parse_yaml, validate
from astraios.errors import ConfigError, DataError, ForeignRunError, MissingDataError
from astraios.locks import Lock
from astraios.provenance import code, now, packages
from astraios.records import Manifest, PlannedJob, RunKind
from astraios.runs import MANIFEST, is_done, read_manifest
from astraios.studies.plan import Job, in_order
from astraios.studies.study import Study

__all__ = ["Change", "Changes", "changes", "read_plan", "settle", "stored_study", "write_study"]

STUDY, PLAN = "study.yaml", "plan.jsonl"
CHEAP = (RunKind.PRETRAIN, RunKind.PACK)
"""What a calibration leaves; a study of which there is nothing else has not begun."""


@dataclass(frozen=True)
class Change:
    """One field of a study."""

    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.before!r} -> {self.after!r}"


@dataclass(frozen=True)
class Changes:
    """How a study differs from the one in its folder."""

    fields: tuple[Change, ...]
    reusable: tuple[Job, ...]
    """Of the new plan, and done."""
    new: tuple[Job, ...]
    """Of the new plan alone."""
    left_over: tuple[PlannedJob, ...]
    """Of the old plan alone, and done."""

    @property
    def begun(self) -> bool:
        """Whether the folder holds work that the new plan would leave over."""
        kinds = [*(job.kind for job in self.reusable), *(job.kind for job in self.left_over)]
        return any(kind not in CHEAP for kind in kinds)

    def __str__(self) -> str:
        lines = [f"  {one}" for one in self.fields]
        lines.append(
            f"{len(self.reusable)} finished jobs are the same and are kept, {len(self.new)} are "
            f"new, and {len(self.left_over)} finished ones are of the old study alone"
        )
        if self.left_over:
            named = ", ".join(job.id for job in self.left_over[:3])
            more = len(self.left_over) - 3
            lines.append(f"  left over: {named}{f' and {more} more' if more > 0 else ''}")
        return "\n".join(lines)


def stored_study(root: Path) -> Study:
    """The study in the folder `root`, as it was begun.

    Raises:
        MissingDataError: if the folder holds none.
        DataError: if it was written by a newer version, or its file is damaged.
    """
    if not root.is_dir():
        raise MissingDataError(f"{str(root)!r} is not a folder; give a study's folder")
    if not (root / MANIFEST).is_file() and not (root / STUDY).is_file():
        raise MissingDataError(
            f"{str(root)!r} holds no study: it has no {MANIFEST}; give the folder that `astraios "
            "study run` made, such as runs/<name>"
        )
    manifest = read_manifest(root)
    if manifest.kind is not RunKind.STUDY:
        raise MissingDataError(
            f"{str(root)!r} is a {manifest.kind} run and no study; give the study's folder"
        )
    if "base_models" not in manifest.config:
        raise MissingDataError(
            f"{str(root)!r} holds outputs that `astraios import-outputs` laid out, which have no "
            "plan: run that command again to go on, and `astraios report` to see them"
        )
    path = root / STUDY
    if not path.is_file():  # killed between the two: the manifest has all of it
        return validate(manifest.config, Study, source=str(root / MANIFEST))
    remedy = "restore it, or remove it: it is written again from the manifest"
    try:
        text = path.read_text(encoding="utf-8")
        study = parse_yaml(text, Study, source=str(path))
    except (ConfigError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged ({error}); {remedy}") from None
    if fingerprint(study) != manifest.fingerprint:
        raise DataError(
            f"{path}: not the study that {MANIFEST} names (fingerprint {fingerprint(study)}, "
            f"{manifest.fingerprint} there); {remedy}"
        )
    return study


def read_plan(root: Path) -> list[PlannedJob]:
    """The jobs of the study in the folder `root`, each after those it needs.

    Raises:
        MissingDataError: if there is no plan.
        DataError: if a line of it is damaged, or the jobs wait for each other.
    """
    path = root / PLAN
    if not path.is_file():
        raise MissingDataError(f"{str(root)!r} holds no {PLAN}: run the study, or plan it by name")
    try:
        return in_order(files.read_records(path, PlannedJob), str(path))
    except ConfigError as error:
        raise DataError(f"{error}; or remove the file: the next run writes it again") from None


def changes(study: Study, jobs: Sequence[Job], root: Path) -> Changes | None:
    """How `study` differs from the one that was begun in `root`; None where it does not.

    Raises:
        DataError: if the folder is of a newer version, or damaged.
        ForeignRunError: if it holds a run of another kind.
    """
    if not (root / MANIFEST).is_file():
        return None
    manifest = read_manifest(root)
    if manifest.kind is not RunKind.STUDY:
        raise ForeignRunError(
            f"{str(root)!r} is a {manifest.kind} run and no study; choose another --out folder"
        )
    if "base_models" not in manifest.config:
        raise ForeignRunError(
            f"{str(root)!r} holds outputs that `astraios import-outputs` laid out; choose another "
            "--out folder, or another name for the study"
        )
    if manifest.fingerprint == fingerprint(study):
        return None
    old = read_plan(root) if (root / PLAN).is_file() else []
    known = {job.id for job in old}
    wanted = {job.id for job in jobs}
    return Changes(
        tuple(Change(*one) for one in differing(manifest.config, study)),
        tuple(job for job in jobs if is_done(root / job.id)),
        tuple(job for job in jobs if job.id not in known),
        tuple(job for job in old if job.id not in wanted and is_done(root / job.id)),
    )


def refuse(found: Changes, study: Study, root: Path) -> ForeignRunError:
    """The error for a study that changed, with what can be done."""
    return ForeignRunError(
        f"run folder {str(root)!r} holds another run: the study {study.name!r} has changed since "
        f"it was begun there:\n{found}\n"
        "take the changes up with --accept-changes, which keeps what is the same; or choose "
        "another --out folder"
    )


def settle(
    study: Study, jobs: Sequence[Job], root: Path, *, accept: bool = False
) -> Changes | None:
    """See to it that `root` is the folder of `study`, if it is the folder of any.

    A study that has not begun there, of which at most base models, packed data and a calibration
    lie there, gives way; another one only where changes are accepted.

    Raises:
        ForeignRunError: if it has changed, and changes are not accepted; says what can be kept.
        LockedRunError: if another process runs a study there.
    """
    found = changes(study, jobs, root)
    if found is None:
        return None
    if found.begun and not accept:
        raise refuse(found, study, root)
    _adopt(study, jobs, root)
    return found


def _adopt(study: Study, jobs: Sequence[Job], root: Path) -> None:
    """Make `study` the one of the folder `root`, in place of the one before; done jobs stay.

    The files of the old one go first and those of the new one come last: a kill in between leaves
    a manifest without them, and the next run writes them again.
    """
    lock = Lock(root)
    try:
        with files.storage(root):
            for name in (STUDY, PLAN):
                (root / name).unlink(missing_ok=True)
        manifest = Manifest(
            run_id=study.name,
            kind=RunKind.STUDY,
            fingerprint=fingerprint(study),
            config=study.model_dump(mode="json"),
            inputs=read_manifest(root).inputs,
            code=code(),
            environment=dict(packages()),
            started=now(),
        )
        files.write_json(root / MANIFEST, manifest)
        write_study(study, jobs, root)
    finally:
        lock.release()


def write_study(study: Study, jobs: Sequence[Job], root: Path) -> None:
    """`study.yaml` and `plan.jsonl`, for people, for the report and for other machines."""
    values = study.model_dump(mode="json")
    files.write_text(root / STUDY, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    planned = (PlannedJob(id=j.id, kind=j.kind, after=j.after, label=j.label) for j in jobs)
    lines = b"".join(record.model_dump_json().encode() + b"\n" for record in planned)
    files.write_bytes(root / PLAN, lines)
