"""Job arrays of Slurm: scripts, submitted in the order that jobs build on each other.

    <root>/.slurm/<n>/              one submission
        setting.json                what all its tasks are told
        <stage>.jsonl               the tasks of an array, one a line
        <stage>.sh                  what `sbatch` is given
        <stage>-<task>.log          what a task said
        arrays.jsonl                the arrays that Slurm took

A stage is jobs of one kind and equal needs that build on earlier stages only. Its array waits until
those are over, however they ended (`afterany`): a task whose forerunner failed says so and ends,
and all others run. One task does one job, or `per_task` of them one after the other, which then
share the base model in memory.

Nothing stays behind to watch: the call ends once all is submitted, or with `dry_run` once it is
written. The same command later submits what is missing and not in the queue any more.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import final

from pydantic import Field

from astraios.config import Config
from astraios.errors import MissingToolError, WorkError
from astraios.files import Writer, make_folder, read_records, write_text
from astraios.records import Record, RunKind
from astraios.studies.bases import base_of
from astraios.studies.board import Board
from astraios.studies.jobfiles import read_tasks, write_tasks, write_value
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.needs import Needs, needs
from astraios.studies.plan import Job

__all__ = ["FOLDER", "Stage", "launcher", "stages"]

FOLDER = ".slurm"
WARNING_S = 120
"""SIGTERM comes so long before the time limit: a training saves a checkpoint."""


class Options(Config):
    """Options of the launcher `slurm`."""

    dry_run: bool = False
    """Write the scripts and submit nothing."""
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    """Limit of a task, as `sbatch --time` takes it; the partition's own by default. A training
    that meets it has saved a checkpoint; the same command submits it again."""
    cpus_per_task: int = Field(default=1, ge=1)
    gpus: bool = True
    """Whether jobs that use an accelerator ask for one."""
    per_task: int = Field(default=1, ge=1)
    """Jobs that a task does, one after the other."""
    array_size: int = Field(default=1000, ge=1)
    """Most tasks of an array; what is more becomes another one (Slurm's `MaxArraySize`)."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command, such as `module load cuda`."""
    more: tuple[str, ...] = ()
    """More options of `sbatch`, such as `--constraint=a100`."""
    python: str = sys.executable
    """The interpreter on the nodes that has Astraios."""


class Array(Record):
    """One line of `arrays.jsonl`."""

    stage: str
    array: str
    """Its number in Slurm."""


@dataclass(frozen=True)
class Stage:
    """One array."""

    name: str
    tasks: tuple[tuple[Job, ...], ...]
    wants: Needs
    after: tuple[str, ...]
    """Names of the stages that it builds on."""


@final
class SlurmLauncher(Launcher):
    """See the module."""

    Options = Options
    elsewhere = True

    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        options: Options = self.options(setting)
        if not options.dry_run and which("sbatch") is None:
            raise MissingToolError(
                "launcher 'slurm' needs sbatch, which was not found; run it on a login node of the "
                "cluster, or write the scripts only: dry_run=true. Nothing was submitted."
            )
        Board(jobs)  # no circles
        folder = make_folder(setting.root / FOLDER)
        queued = _queued(folder, options)
        todo = [job for job in jobs if job.id not in queued]
        numbers = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
        here = folder / str(max(numbers, default=0) + 1)
        for job in jobs:
            if job.id in queued:
                watch(Event(job, Phase.SUBMITTED, note=f"in the queue: array {queued[job.id]}"))
        if not todo:
            return
        made = stages(todo, setting, options)
        make_folder(here)
        write_value(here / "setting.json", setting)
        arrays: dict[str, str] = {}
        with Writer(here / "arrays.jsonl") as writer:
            for stage in made:
                path = here / f"{stage.name}.sh"
                write_tasks(path.with_suffix(".jsonl"), stage.tasks)
                text = script(stage, here, setting, options)
                write_text(path, text)
                if options.dry_run:
                    _tell(
                        stage, Phase.WRITTEN, str(path), watch, f"{_by_hand(stage, path)}\n{text}"
                    )
                    continue
                first = {queued[name] for jobs in stage.tasks for job in jobs for name in job.after
                         if name in queued}  # fmt: skip
                waits = [arrays[name] for name in stage.after] + sorted(first)
                arrays[stage.name] = array = _submit(path, waits)
                writer.append(Array(stage=stage.name, array=array))
                _tell(stage, Phase.SUBMITTED, f"array {array}", watch)


def stages(jobs: Sequence[Job], setting: Setting, options: Options) -> list[Stage]:
    """`jobs` as arrays, each behind those it builds on."""
    level: dict[str, int] = {}
    groups: dict[tuple[int, RunKind, Needs], list[Job]] = {}
    for job in _in_order(jobs):
        level[job.id] = 1 + max((level[name] for name in job.after if name in level), default=0)
        key = (level[job.id], job.kind, needs(job))
        groups.setdefault(key, []).append(job)
    found: list[Stage] = []
    stage_of: dict[str, str] = {}
    for (depth, kind, wants), members in sorted(groups.items(), key=lambda item: item[0][0]):
        tasks = _tasks(members, options.per_task)
        for start in range(0, len(tasks), options.array_size):
            part = tasks[start : start + options.array_size]
            names = {stage.name for stage in found}
            plain = f"{depth:02}-{kind}"
            n = 1 + sum(name == plain or name.startswith(f"{plain}-") for name in names)
            name = plain if n == 1 else f"{plain}-{n}"
            after = {stage_of[one] for jobs_ in part for job in jobs_ for one in job.after
                     if one in stage_of}  # fmt: skip
            found.append(Stage(name, tuple(part), wants, tuple(sorted(after))))
            stage_of |= {job.id: name for jobs_ in part for job in jobs_}
    return found


def _in_order(jobs: Sequence[Job]) -> Iterable[Job]:
    """Each job behind those it builds on."""
    board = Board(jobs)
    while (job := board.first()) is not None:
        board.start(job)
        board.end(job, well=True)
        yield job


def _tasks(jobs: Sequence[Job], per_task: int) -> list[tuple[Job, ...]]:
    """`jobs` in tasks of so many, those of one base model together."""
    by_base: dict[str | None, list[Job]] = {}
    for job in jobs:
        by_base.setdefault(base_of(job), []).append(job)
    return [
        tuple(group[start : start + per_task])
        for group in by_base.values()
        for start in range(0, len(group), per_task)
    ]


def script(stage: Stage, folder: Path, setting: Setting, options: Options) -> str:
    """What `sbatch` is given for a stage."""
    root, wants = setting.root.resolve(), stage.wants
    of = f"{folder.name}/{stage.name}"
    width = f"%{setting.n_workers}" if setting.n_workers else ""
    asked = {
        "job-name": f"{root.name}/{of}",
        "array": f"0-{len(stage.tasks) - 1}{width}",
        "cpus-per-task": options.cpus_per_task,
        "mem": f"{wants.host_mib}M" if wants.host_mib else None,
        "gres": f"gpu:{wants.n_devices}" if options.gpus and wants.n_devices else None,
        "time": options.time,
        "partition": options.partition,
        "account": options.account,
        "output": folder.resolve() / f"{stage.name}-%a.log",
        "open-mode": "append",
        "signal": f"B:TERM@{WARNING_S}",
    }
    command = [options.python, "-m", "astraios", "study", "work", str(root), "--of", of]
    after = f"# after {', '.join(stage.after)}, however they end\n" if stage.after else ""
    return "".join(
        [
            "#!/bin/bash\n",
            *(f"#SBATCH --{name}={_quoted(value)}\n" for name, value in asked.items() if value),
            "#SBATCH --requeue\n",
            *(f"#SBATCH {more}\n" for more in options.more),
            after,
            "set -eu\n",
            f"cd {shlex.quote(str(Path.cwd()))}\n",
            *(f"{line}\n" for line in options.setup),
            f'exec {shlex.join(command)} --index "$SLURM_ARRAY_TASK_ID"\n',
        ]
    )


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text


def _submit(path: Path, after: Sequence[str]) -> str:
    """Hand a script to Slurm.

    Returns:
        The array's number.

    Raises:
        WorkError: if Slurm refuses it.
    """
    done = subprocess.run(_command(path, after), capture_output=True, text=True)
    number = done.stdout.strip().partition(";")[0]
    if done.returncode or not number.isdigit():
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise WorkError(
            f"sbatch refused {str(path)!r}: {said}; arrays before it are submitted, and the same "
            "command submits the rest"
        )
    return number


def _command(path: Path, after: Sequence[str]) -> list[str]:
    waits = [f"--dependency=afterany:{':'.join(after)}"] if after else []
    return ["sbatch", "--parsable", *waits, str(path)]


def _by_hand(stage: Stage, path: Path) -> str:
    """What a shell is told to submit a stage, after those that it waits for."""

    def variable(name: str) -> str:
        return "ARRAY_" + name.replace("-", "_")

    command = _command(Path(shlex.quote(str(path))), [f"${variable(one)}" for one in stage.after])
    return f"; to submit it: {variable(stage.name)}=$({' '.join(command)})"


def _queued(folder: Path, options: Options) -> Mapping[str, str]:
    """Job -> array, of jobs that earlier submissions have in Slurm's queue."""
    known: dict[str, list[list[Job]]] = {}
    for path in sorted(folder.glob("*/arrays.jsonl")):
        for taken in read_records(path, Array):
            known[taken.array] = read_tasks(path.with_name(f"{taken.stage}.jsonl"))
    if not known or options.dry_run:
        return {}
    if which("squeue") is None:
        raise MissingToolError(
            "jobs of this study were submitted before, and squeue, which tells whether they are "
            "still in the queue, was not found; run this on a login node of the cluster"
        )
    asked = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    told = subprocess.run(asked, capture_output=True, text=True)
    if told.returncode:
        raise WorkError(f"squeue failed: {told.stderr.strip()}; run the command again")
    found: dict[str, str] = {}
    for line in told.stdout.split():
        array, _, task = line.partition("_")
        if array in known and task.isdigit() and int(task) < len(known[array]):
            found |= {job.id: array for job in known[array][int(task)]}
    return found


def _tell(
    stage: Stage, phase: Phase, what: str, watch: Callable[[Event], None], text: str = ""
) -> None:
    """Say of every job where it is; with the first, the script."""
    for number, jobs in enumerate(stage.tasks):
        for job in jobs:
            watch(Event(job, phase, note=f"{what}, task {number}{text}"))
            text = ""


launcher = SlurmLauncher()
