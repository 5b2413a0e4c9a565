"""Where jobs run; each module exports a `launcher`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from astraios.studies.plan import Job

__all__ = ["Event", "Launcher", "Phase", "Setting"]


class Phase(StrEnum):
    """What happened to a job."""

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A job it builds on failed."""


@dataclass(frozen=True)
class Event:
    """News of one job."""

    job: Job
    phase: Phase
    done: int = 0
    total: int = 0
    note: str = ""
    """Progress: a number worth seeing. Failure: the whole message. Done: how many faults are left,
    if any."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of a study share."""

    root: Path
    sandbox: str
    data_dir: Path | None
    n_workers: int


class Launcher(ABC):
    """Runs jobs, each after those it builds on."""

    @abstractmethod
    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        """Run `jobs` and tell `watch` of everything; returns when none is left to run.

        A failed job does not stop the others. On KeyboardInterrupt all work is stopped and the
        exception goes on; what was done stays, and the same call continues.
        """
