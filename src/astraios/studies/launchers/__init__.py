"""Where jobs run; each module exports a `launcher`.

A launcher decides where and when. What a job is, how it is done and what is kept between jobs is
`studies.worker.Worker`'s; which jobs are ready is `studies.board.Board`'s. See docs/launchers.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from astraios.config import Config
from astraios.progress import Progress
from astraios.studies.plan import Job

if TYPE_CHECKING:
    from astraios.studies.bases import Bases

__all__ = ["Event", "Launcher", "NoOptions", "Perform", "Phase", "Setting"]


class Phase(StrEnum):
    """What happened to a job."""

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A job it builds on failed."""
    AGAIN = "again"
    """Its worker was lost; it is begun once more."""
    SUBMITTED = "submitted"
    """It waits in the queue of a cluster, which runs it when this launcher is gone."""
    WRITTEN = "written"
    """The script that would submit it lies there; nobody was asked to run it."""


@dataclass(frozen=True)
class Event:
    """News of one job."""

    job: Job
    phase: Phase
    done: int = 0
    total: int = 0
    note: str = ""
    """Progress: a number worth seeing. Failure: the whole message. Done: how many faults are left,
    if any. Again, submitted and written: why, and where."""
    lacked_memory: bool = False
    """Failed for lack of memory: it may well succeed with more of it, or alone."""


class NoOptions(Config):
    """Options of a launcher that has none."""


Perform = Callable[["Job", "Setting", Progress, "Bases"], str | None]
"""Does a job: told the study's setting, whom to tell of progress, and the bases in memory. Gives
what is to be said of a job that is done, if anything."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of a study share. It is sent to other processes."""

    root: Path
    sandbox: str
    data_dir: Path | None
    n_workers: int | None = None
    """Jobs at a time; None: as many as the launcher finds room for."""
    max_memory_mib: float | None = None
    """Memory of the machine that all jobs together may take; None: what the launcher finds."""
    options: Config = field(default_factory=NoOptions)
    """The launcher's own, of its `Options`."""
    perform: Perform | None = None
    """What is done with a job; None: `studies.work.work`. A benchmark puts something else here."""


class Launcher(ABC):
    """Runs jobs, each after those it builds on."""

    Options: ClassVar[type[Config]] = NoOptions
    """Fields that `run_study(launcher_options=...)` takes for this launcher."""
    elsewhere: ClassVar[bool] = False
    """Whether jobs run on other machines: what this one lacks is then no reason to refuse."""

    def options(self, setting: Setting) -> Any:
        """The launcher's options: those of `setting`, or the defaults where it has none."""
        given = setting.options
        return given if isinstance(given, self.Options) else self.Options()

    @abstractmethod
    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        """Run `jobs` and tell `watch` of everything; returns when none is left to run.

        A failed job does not stop the others. On KeyboardInterrupt all work is stopped and the
        exception goes on; what was done stays, and the same call continues.
        """
