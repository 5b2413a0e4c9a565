"""Execute what is missing of a study."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import yaml

from astraios import files, registry, runs
from astraios.config import sandbox_level
from astraios.errors import MissingToolError
from astraios.records import PlannedJob, RunKind
from astraios.sandbox import open_sandbox
from astraios.studies import launchers
from astraios.studies.checks import check
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.plan import Job, plan
from astraios.studies.study import Study
from astraios.studies.work import is_finished, n_faults


@dataclass
class Summary:
    """How a study stands after a run."""

    root: Path
    n_jobs: int
    n_before: int
    """Jobs that were done before this run."""
    failed: list[tuple[Job, str]] = field(default_factory=list)
    """Job and message."""
    skipped: list[Job] = field(default_factory=list)
    faults: list[tuple[Job, int]] = field(default_factory=list)
    """Jobs that are done but for so many samples, which the next run tries again. A judging has
    those of the generation it reads, and its own."""

    @property
    def complete(self) -> bool:
        return not self.failed and not self.skipped and not self.faults

    @property
    def left(self) -> str:
        """What the next run has to do, in words; empty if the study is complete."""
        said = []
        if self.failed or self.skipped:
            said.append(
                f"{len(self.failed)} jobs failed and {len(self.skipped)} were skipped for it"
            )
        if self.faults:
            first, n = self.faults[0]
            said.append(
                f"{len(self.faults)} jobs have samples that are faults, such as {n} of "
                f"{first.label!r}; they are not counted"
            )
        return "; ".join(said)

    @property
    def nothing_to_do(self) -> bool:
        return self.n_before == self.n_jobs


def missing(jobs: list[Job], root: Path) -> list[Job]:
    """Jobs that are not done or have faults, with forerunners that are done left out of `after`."""
    open_jobs = [job for job in jobs if not is_finished(job, root)]
    ids = {job.id for job in open_jobs}
    return [replace(job, after=tuple(i for i in job.after if i in ids)) for job in open_jobs]


def run_study(
    study: Study,
    root: Path,
    *,
    data_dir: Path | None = None,
    n_workers: int | None = None,
    launcher: str = "local",
    watch: Callable[[Event], None] = lambda event: None,
    begin: Callable[[list[Job], list[Job]], None] = lambda jobs, todo: None,
) -> Summary:
    """Run what is missing of `study` in the folder `root`.

    Args:
        study: what to run.
        root: the study's folder; made if it is not there.
        data_dir: folder of benchmark files.
        n_workers: jobs at a time; one a core by default.
        launcher: name of the launcher.
        watch: told of every event.
        begin: told of all jobs and of those to do, before the first starts.

    Raises:
        ForeignRunError: if `root` holds another study.
        LockedRunError: if another process runs a study there.
        MissingToolError: if a library or a toolchain is missing; nothing was run.
        UsageError: if the study cannot be run as it is written.
    """
    check(study)
    jobs = plan(study)
    with runs.Run.open(root, kind=RunKind.STUDY, config=study, run_id=study.name) as run:
        _write_study(study, jobs, run)
        todo = missing(jobs, root)
        summary = Summary(root, len(jobs), len(jobs) - len(todo))
        begin(jobs, todo)
        if todo:
            _check_libraries(todo)

            def note(event: Event) -> None:
                if event.phase is Phase.FAILED:
                    summary.failed.append((event.job, event.note))
                elif event.phase is Phase.SKIPPED:
                    summary.skipped.append(event.job)
                watch(event)

            chosen: Launcher = registry.load(launchers, "launcher", launcher)
            setting = Setting(
                root,
                _sandbox_level(study.sandbox, todo),
                data_dir,
                n_workers or max(1, os.cpu_count() or 1),
            )
            chosen.launch(todo, setting, note)
            summary.faults += [(job, n) for job in jobs if (n := n_faults(job, root))]
        if summary.complete and not run.done:
            run.seal({"n_jobs": len(jobs)})
    return summary


LIBRARIES = ("torch", "transformers", "peft", "accelerate")
"""What every kind of job but judging needs."""


def _check_libraries(todo: list[Job]) -> None:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing and any(job.kind is not RunKind.JUDGE for job in todo):
        raise MissingToolError(
            f"tuning and generating need {', '.join(missing)}; install them with "
            "pip install 'astraios[train]'. Nothing was run."
        )


def _sandbox_level(asked: str, todo: list[Job]) -> str:
    """The level that all judging of this run uses, tried out before anything starts.

    Raises:
        SandboxError, MissingToolError: if the level asked for does not work here.
    """
    if not any(job.kind is RunKind.JUDGE for job in todo):
        return asked
    with open_sandbox(sandbox_level(asked), jobs=1) as sandbox:
        return sandbox.level


def _write_study(study: Study, jobs: list[Job], run: runs.Run) -> None:
    """`study.yaml` and `plan.jsonl`, for people and for the report; written once."""
    path = run.folder / "study.yaml"
    if not path.exists():
        values = study.model_dump(mode="json")
        files.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    if not (run.folder / "plan.jsonl").exists():
        run.rewrite(
            "plan",
            (PlannedJob(id=j.id, kind=j.kind, after=j.after, label=j.label) for j in jobs),
        )
