"""One task of a job array: jobs of a study, done where the cluster put it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from astraios.errors import ConfigError
from astraios.runs import is_done
from astraios.studies import failures
from astraios.studies.jobfiles import read_tasks, read_value
from astraios.studies.launchers import Event, Phase, Setting
from astraios.studies.launchers.slurm import FOLDER
from astraios.studies.worker import Worker

__all__ = ["work_on"]


def work_on(
    root: Path,
    *,
    of: str,
    index: int,
    watch: Callable[[Event], None] = lambda event: None,
) -> list[Event]:
    """Do the jobs of one task, and write failures down in the study's folder.

    Args:
        root: the study's folder.
        of: submission and stage, such as `1/03-train`.
        index: number of the task.
        watch: told of every event.

    Returns:
        How each job ended.

    Raises:
        ConfigError: if there is no such task.
        MissingDataError: if there is no such stage.
        DataError: if its file was written by another version.
    """
    path = root / FOLDER / f"{of}.jsonl"
    tasks = read_tasks(path)
    if not 0 <= index < len(tasks):
        raise ConfigError(f"{path} has the tasks 0 to {len(tasks) - 1}, and not {index}")
    setting = replace(read_value(path.with_name("setting.json"), Setting), root=root)
    ends: list[Event] = []
    with Worker(setting, n_threads=1) as worker:
        for job in tasks[index]:
            missing = [name for name in job.after if not is_done(root / name)]
            if missing:
                end = Event(job, Phase.SKIPPED, note=f"{missing[0]}, which it builds on, failed")
            else:
                watch(Event(job, Phase.STARTED))
                end = worker.do(job, watch)
            if end.phase is Phase.FAILED:
                failures.keep(root, job.id, end.note)
            watch(end)
            ends.append(end)
    return ends
