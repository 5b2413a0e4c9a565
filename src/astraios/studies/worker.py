"""One worker: does jobs one after another and keeps what they share. The same for all launchers."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from astraios.errors import AstraiosError, LockedRunError
from astraios.progress import Progress
from astraios.records import RunKind
from astraios.studies.bases import Bases, base_of
from astraios.studies.launchers import Event, Phase, Setting
from astraios.studies.plan import Job

__all__ = ["Worker"]

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.2
"""Shortest time between two progress messages of a worker."""
LOCK_PATIENCE_S = 120.0
"""How long a run folder may stay locked by a process that is dying, on this machine or another
one: NFSv4 servers give the locks of a lost client back after 90 s."""
LOCK_EVERY_S = 0.25


@final
class Worker:
    """See the module.

        with Worker(setting) as worker:
            event = worker.do(job, watch)

    Args:
        setting: of the study; sent as it is to other processes and machines.
        n_threads: of tensor work in this process; None leaves them as they are.
    """

    def __init__(self, setting: Setting, n_threads: int | None = None) -> None:
        self._setting = setting
        self._n_threads = n_threads
        self._bases = Bases()
        self._holds: str | None = None

    @property
    def holds(self) -> str | None:
        """The base model in memory, by `bases.base_of`."""
        return self._holds

    def do(
        self,
        job: Job,
        watch: Callable[[Event], None] = lambda event: None,
        *,
        keep: bool = True,
    ) -> Event:
        """Fill the run folder of `job`.

        What goes wrong is in the event that is returned; nothing but KeyboardInterrupt and
        SystemExit is raised.

        Args:
            job: all that it builds on is done.
            watch: told of progress, a few times a second at most.
            keep: whether a base that the job does not use may stay in memory meanwhile.

        Returns:
            How it ended: done or failed.
        """
        base = base_of(job)
        if base != self._holds and (base is not None or not keep):
            self.forget()
        last = 0.0

        def tell(done: int, total: int, note: str) -> None:
            nonlocal last
            if time.monotonic() - last >= REPORT_EVERY_S:
                last = time.monotonic()
                watch(Event(job, Phase.PROGRESS, done, total, note))

        try:
            note = self._perform(job, tell)
        except AstraiosError as error:
            event = Event(job, Phase.FAILED, note=str(error), lacked_memory=_lacked_memory(error))
        except Exception as error:
            # A defect of ours or of a library: told whole, and the other jobs go on.
            event = Event(
                job,
                Phase.FAILED,
                note=traceback.format_exc(),
                lacked_memory=_lacked_memory(error),
            )
        else:
            self._holds = base or self._holds
            return Event(job, Phase.DONE, note=note)
        self.forget()
        return event

    def _perform(self, job: Job, tell: Progress) -> str:
        perform = self._setting.perform or _work
        if self._setting.perform is None and job.kind is not RunKind.JUDGE:  # that needs no torch
            from astraios.training.process import settle

            settle(self._n_threads)
        patience = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                return perform(job, self._setting, tell, self._bases) or ""
            except LockedRunError:
                if time.monotonic() > patience:
                    raise
                time.sleep(LOCK_EVERY_S)

    def forget(self) -> None:
        """Let go of the base model."""
        self._bases.forget()
        self._holds = None

    def close(self) -> None:
        self.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _work(job: Job, setting: Setting, tell: Progress, bases: Bases) -> str:
    from astraios.studies.work import n_faults, work

    work(
        job,
        setting.root,
        sandbox=setting.sandbox,
        data_dir=setting.data_dir,
        progress=tell,
        bases=bases,
    )
    n = n_faults(job, setting.root)
    return f"{n} faults" if n else ""


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it came from, says that there is no memory left."""
    while error is not None:
        words = str(error)
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if "DefaultCPUAllocator" in words:
            return True
        error = error.__cause__ or error.__context__
    return False
