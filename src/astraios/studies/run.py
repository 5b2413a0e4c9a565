"""Execute what is missing of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astraios import registry, runs
from astraios.config import sandbox_level, validate
from astraios.errors import MissingToolError
from astraios.evaluation.config import EvaluationConfig
from astraios.records import RunKind
from astraios.sandbox import open_sandbox
from astraios.studies import changes, failures, launchers
from astraios.studies.checks import check, lacking_engines
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.plan import Job, plan
from astraios.studies.selection import behind, select
from astraios.studies.study import Study
from astraios.studies.work import is_finished, n_faults


@dataclass
class Summary:
    """How a study stands after a run."""

    root: Path
    n_jobs: int
    n_before: int
    """Jobs that were done before this run, of those that were chosen."""
    n_chosen: int
    """Jobs that this run was about; fewer than all where it was told to do a part."""
    failed: list[tuple[Job, str]] = field(default_factory=list)
    """Job and message."""
    skipped: list[Job] = field(default_factory=list)
    submitted: list[Job] = field(default_factory=list)
    """Jobs in the queue of a cluster, which are done when this call is over."""
    written: list[Job] = field(default_factory=list)
    """Jobs whose scripts were written and not submitted."""
    faults: list[tuple[Job, int]] = field(default_factory=list)
    """Jobs that are done but for so many samples, which the next run tries again. A judging has
    those of the generation it reads, and its own."""

    @property
    def complete(self) -> bool:
        return not (self.failed or self.skipped or self.submitted or self.written or self.faults)

    @property
    def left(self) -> str:
        """What the next run has to do, in words; empty if the study is complete."""
        said = []
        if self.failed or self.skipped:
            said.append(
                f"{len(self.failed)} jobs failed and {len(self.skipped)} were skipped for it"
            )
        if self.submitted:
            said.append(f"{len(self.submitted)} jobs wait for a cluster to run them")
        if self.written:
            said.append(
                f"the scripts of {len(self.written)} jobs are written and nothing is submitted; "
                "the same command without dry_run=true submits them"
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
        return self.n_before == self.n_chosen


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
    launcher_options: Mapping[str, Any] = MappingProxyType({}),
    max_memory_mib: float | None = None,
    retry: bool = True,
    failed_only: bool = False,
    only: Sequence[str] = (),
    accept_changes: bool = False,
    watch: Callable[[Event], None] = lambda event: None,
    begin: Callable[[list[Job], list[Job]], None] = lambda jobs, todo: None,
) -> Summary:
    """Run what is missing of `study` in the folder `root`.

    Args:
        study: what to run.
        root: the study's folder; made if it is not there.
        data_dir: folder of benchmark files.
        n_workers: jobs at a time; by default as many as the launcher finds room for.
        launcher: name of the launcher.
        launcher_options: fields of the launcher's `Options`.
        max_memory_mib: memory of the machine that all jobs together may take; by default what there
            is.
        retry: whether jobs that failed in an earlier run are tried again. Where not, they and what
            builds on them are left as they are, and are in the summary.
        failed_only: run nothing but jobs that failed in an earlier run and what builds on them.
        only: run the jobs that match these patterns and what they build on; see `selection`.
        accept_changes: take up a study that has changed since it was begun in `root`.
        watch: told of every event.
        begin: told of all jobs and of those to do, before the first starts.

    Raises:
        ConfigError: if the launcher has no such option, or a pattern of `only` matches nothing.
        ForeignRunError: if `root` holds another study, or this one before it was changed.
        LockedRunError: if another process runs a study there.
        MissingToolError: if a library or a toolchain is missing; nothing was run.
        UnknownNameError: if there is no such launcher.
        UsageError: if the study cannot be run as it is written.
    """
    chosen: Launcher = registry.load(launchers, "launcher", launcher, Launcher)
    options = validate(launcher_options, chosen.Options, source=f"options of launcher {launcher!r}")
    check(study, elsewhere=chosen.elsewhere)
    jobs = plan(study)
    chosen_jobs = select(jobs, only) if only else jobs
    changes.settle(study, jobs, root, accept=accept_changes)
    with runs.Run.open(root, kind=RunKind.STUDY, config=study, run_id=study.name) as run:
        # Of the same study another version, or other tools, may make other jobs.
        changes.write_study(study, jobs, root)
        if failed_only:
            chosen_jobs = behind(chosen_jobs, failures.read(root))
        todo = missing(chosen_jobs, root)
        if todo and run.done:
            run.reopen()
        summary = Summary(root, len(jobs), len(chosen_jobs) - len(todo), len(chosen_jobs))
        failures.forget(root)
        if not retry:
            todo = _without_failed(todo, root, summary)
        begin(jobs, todo)
        if todo:
            if not chosen.elsewhere:
                _check_libraries(todo)
                _check_engines(todo)

            def note(event: Event) -> None:
                if event.phase is Phase.FAILED:
                    summary.failed.append((event.job, event.note))
                    failures.keep(root, event.job.id, event.note)
                elif event.phase is Phase.SUBMITTED:
                    summary.submitted.append(event.job)
                elif event.phase is Phase.WRITTEN:
                    summary.written.append(event.job)
                elif event.phase is Phase.SKIPPED:
                    summary.skipped.append(event.job)
                watch(event)

            asked = sandbox_level(study.sandbox)
            level = asked if chosen.elsewhere else _level_here(asked, todo)
            setting = Setting(root, level, data_dir, n_workers, max_memory_mib, options)
            chosen.launch(todo, setting, note)
            failures.forget(root)
            summary.faults += [(job, n) for job in jobs if (n := n_faults(job, root))]
        everything = len(chosen_jobs) == len(jobs) or not missing(jobs, root)
        if summary.complete and everything and not run.done:
            run.seal({"n_jobs": len(jobs)})
    return summary


def _without_failed(todo: list[Job], root: Path, summary: Summary) -> list[Job]:
    """`todo` without jobs that failed before and those that build on them, which are noted."""
    failed = failures.read(root)
    out: set[str] = set()
    left = []
    for job in todo:  # each is behind those it builds on
        if job.id in failed:
            summary.failed.append((job, failed[job.id].message))
        elif out.intersection(job.after):
            summary.skipped.append(job)
        else:
            left.append(job)
            continue
        out.add(job.id)
    return left


LIBRARIES = ("torch", "transformers", "peft", "accelerate")
"""What every kind of job but judging needs."""


def _check_libraries(todo: list[Job]) -> None:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing and any(job.kind is not RunKind.JUDGE for job in todo):
        raise MissingToolError(
            f"tuning and generating need {', '.join(missing)}; install them with "
            "pip install 'astraios[train]'. Nothing was run."
        )


def _check_engines(todo: list[Job]) -> None:
    asked = (job.config for job in todo if isinstance(job.config, EvaluationConfig))
    for lack in lacking_engines(asked):
        raise MissingToolError(f"{lack}. Nothing was run.")


def _level_here(asked: str, todo: list[Job]) -> str:
    """The level that all judging of this run uses, tried out before anything starts.

    Raises:
        SandboxError, MissingToolError: if the level asked for does not work here.
    """
    if not any(job.kind is RunKind.JUDGE for job in todo):
        return asked
    with open_sandbox(asked, jobs=1) as sandbox:
        return sandbox.level
