"""Worker processes on this machine, one thread each.

A worker imports torch once and does one job after another. Small models run fastest on one thread,
so as many workers as cores are kept busy, as far as jobs are ready.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, final

from astraios.errors import AstraiosError
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.plan import Job

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.2
"""Shortest time between two progress messages of a worker."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


@final
class LocalLauncher(Launcher):
    """See the module."""

    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        board = _Board(jobs)
        workers: list[_Worker] = []
        try:
            while not board.finished:
                for job in board.blocked():
                    watch(Event(job, Phase.SKIPPED, note="a job it builds on failed"))
                self._hand_out(board, workers, setting, watch)
                for worker in self._ready(workers):
                    self._listen(worker, workers, board, watch)
        finally:
            for worker in workers:
                _stop(worker)

    def _hand_out(
        self,
        board: _Board,
        workers: list[_Worker],
        setting: Setting,
        watch: Callable[[Event], None],
    ) -> None:
        while job := board.next_ready():
            idle = next((w for w in workers if w.job is None), None)
            if idle is None:
                if len(workers) >= setting.n_workers:
                    return
                idle = _start(setting)
                workers.append(idle)
            board.start(job)
            idle.job = job
            idle.pipe.send(job)
            watch(Event(job, Phase.STARTED))

    @staticmethod
    def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
        busy = {worker.pipe: worker for worker in workers if worker.job is not None}
        return [busy[pipe] for pipe in wait(list(busy))] if busy else []  # type: ignore[index]

    @staticmethod
    def _listen(
        worker: _Worker,
        workers: list[_Worker],
        board: _Board,
        watch: Callable[[Event], None],
    ) -> None:
        job = worker.job
        assert job is not None
        try:
            phase, done, total, note = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            workers.remove(worker)
            phase, done, total = Phase.FAILED, 0, 0
            note = (
                f"its worker process died (exit code {worker.process.exitcode}); if that was the "
                "kernel for lack of memory, use fewer --jobs"
            )
        watch(Event(job, phase, done, total, note))
        if phase in (Phase.DONE, Phase.FAILED):
            board.end(job, well=phase is Phase.DONE)
            worker.job = None


class _Board:
    """Which jobs wait, run, and have ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = {job.id: job for job in jobs}
        self._running: set[str] = set()
        self._failed: set[str] = set()
        self._open = set(self._waiting)

    @property
    def finished(self) -> bool:
        return not self._waiting and not self._running

    def next_ready(self) -> Job | None:
        """The first job whose forerunners are all done."""
        for job in self._waiting.values():
            if not self._open.intersection(job.after):
                return job
        return None

    def blocked(self) -> list[Job]:
        """Jobs that cannot run any more, because one they build on failed; they are ended."""
        found: list[Job] = []
        for job in list(self._waiting.values()):
            if self._failed.intersection(job.after):
                del self._waiting[job.id]
                self._failed.add(job.id)
                found.append(job)
        return found

    def start(self, job: Job) -> None:
        del self._waiting[job.id]
        self._running.add(job.id)

    def end(self, job: Job, *, well: bool) -> None:
        self._running.discard(job.id)
        if well:
            self._open.discard(job.id)
        else:
            self._failed.add(job.id)


def _start(setting: Setting) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # Not a daemon: judging starts processes of its own.
    process = context.Process(target=_serve, args=(theirs, setting, os.getpid()))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _stop(worker: _Worker) -> None:
    with contextlib.suppress(OSError):
        worker.pipe.close()
    if worker.job is None:
        worker.process.join(timeout=5)  # an idle worker ends by itself when its pipe closes
    if worker.process.is_alive():
        worker.process.terminate()
        worker.process.join(timeout=5)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


# --- in the worker ----------------------------------------------------------------------------


def _serve(pipe: Connection, setting: Setting, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides when to stop
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    from astraios.training.process import settle

    settle(n_threads=1)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            _do(job, setting, pipe)
        except BrokenPipeError:
            return


def _do(job: Job, setting: Setting, pipe: Connection) -> None:
    from astraios.studies.work import n_faults, work

    last = 0.0

    def tell(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            pipe.send((Phase.PROGRESS, done, total, note))

    message: tuple[Any, ...] = (Phase.DONE, 0, 0, "")
    try:
        work(
            job,
            setting.root,
            sandbox=setting.sandbox,
            data_dir=setting.data_dir,
            progress=tell,
        )
        if n := n_faults(job, setting.root):
            message = (Phase.DONE, 0, 0, f"{n} faults")
    except AstraiosError as error:
        message = (Phase.FAILED, 0, 0, str(error))
    except BrokenPipeError:
        raise
    except Exception:
        # A defect of ours or of a library: told whole, and the other jobs go on.
        message = (Phase.FAILED, 0, 0, traceback.format_exc())
    pipe.send(message)


def _end_with_parent(parent: int) -> None:
    """Leave when the launcher was killed, so that its run folders are free again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


launcher = LocalLauncher()
