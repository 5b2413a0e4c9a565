"""Worker processes on this machine, one thread each.

A worker imports torch once and does one job after another. Small models run fastest on one thread,
so as many workers as cores are kept busy, as far as jobs are ready and memory allows.

    memory     a job starts while the needs of all that run fit (`needs.py`); one that could not fit
               in an empty machine is refused where the limit was given, else it runs alone
    devices    a worker sees one accelerator (`CUDA_VISIBLE_DEVICES`); a job has it alone, unless
               the estimates say that several fit
    base       a worker is given jobs of the base model that it has in memory first

A worker that was killed, or ran out of memory, has its job begun once more, with nothing beside it;
then it is reported. Ctrl-C and SIGTERM stop the workers: each has `grace_s` to end what it does,
which for a training means a checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, final

from pydantic import Field

from astraios.config import DEVICES, Config, environment
from astraios.studies import machine
from astraios.studies.bases import base_of
from astraios.studies.board import Board
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.launchers._room import Room
from astraios.studies.needs import Needs, needs
from astraios.studies.plan import Job
from astraios.studies.worker import Worker

log = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGTERM
"""Exit code of a worker that SIGTERM has ended."""


class Options(Config):
    """Options of the launcher `local`."""

    devices: tuple[str, ...] | None = None
    """Accelerators to use, as `CUDA_VISIBLE_DEVICES` names them; all that are there by default."""
    grace_s: float = Field(default=30.0, ge=0)
    """How long workers may take to end when they are stopped."""


@dataclass(eq=False)
class _Process:
    process: BaseProcess
    pipe: Connection
    place: str | None
    """The accelerator that it sees; None: whichever the job's config names, or none."""
    job: Job | None = None
    holds: str | None = None
    """Base model in memory."""
    held_mib: int = 0


@final
class LocalLauncher(Launcher):
    """See the module."""

    Options = Options

    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        options: Options = self.options(setting)
        board = Board(jobs, needs=needs, base=base_of)
        pool = _Pool(board, setting, options, watch)
        try:
            while not board.finished:
                pool.hand_out()
                pool.listen()
        finally:
            pool.stop(options.grace_s)


@final
class _Pool:
    """The worker processes of one launch."""

    def __init__(
        self, board: Board, setting: Setting, options: Options, watch: Callable[[Event], None]
    ) -> None:
        self._board, self._setting, self._watch = board, setting, watch
        self._workers: list[_Process] = []
        self._room = Room.of(setting, options.devices)
        self._lost: set[str] = set()
        """Jobs whose worker was lost once."""
        self._alone: list[Job] = []
        """Of those, the ones that wait for the machine to be empty."""
        self._exclusive: str | None = None
        """The job that runs with nothing beside it."""
        self._n_kills = machine.kills_for_memory()

    # --- giving work ---

    def hand_out(self) -> None:
        """Start every job that there is a worker and room for."""
        if self._exclusive is not None:
            return
        if self._alone:
            if not any(worker.job for worker in self._workers):
                self._again(self._alone.pop())
            return
        while self._board.n_ready:
            if not self._start_one():
                return

    def _start_one(self) -> bool:
        room, board = self._room, self._board
        idle = [worker for worker in self._workers if worker.job is None]
        if not idle and len(self._workers) >= room.n_workers:
            return False
        for exactly in (True, False):  # a base that is in memory goes before one that is read
            for worker in idle:
                job = board.first(worker.holds, partial(_fits, room, worker))
                if job is None or (exactly and board.base(job) not in (None, worker.holds)):
                    continue
                self._give(worker, job)
                return True
        if len(self._workers) < room.n_workers or idle:
            job = board.first(None, lambda base, wants: room.place_for(wants) is not None)
            if job is not None:
                place = room.place_for(board.needs(job))
                assert place is not None
                if len(self._workers) >= room.n_workers:
                    self._retire(idle[0])
                self._give(self._start(place.device), job)
                return True
        if any(worker.held_mib for worker in idle):
            for worker in idle:  # what they keep may be what is lacking
                self._forget(worker)
            return True
        if not any(worker.job for worker in self._workers):
            job = board.first()
            assert job is not None
            self._too_large(job)
            return True
        return False

    def _too_large(self, job: Job) -> None:
        """A job that an empty machine has no room for, by the estimate."""
        wants = self._board.needs(job)
        if self._setting.max_memory_mib is not None and self._room.exceeds(wants):
            self._board.start(job)
            self._end(
                job,
                Event(
                    job,
                    Phase.FAILED,
                    note=f"it takes about {wants.host_mib:,} MiB of memory, and all jobs together "
                    f"may take {self._setting.max_memory_mib:,.0f}; raise --max-memory",
                ),
            )
            return
        log.warning("%s may take more memory than there is; it runs alone", job.label)
        place = self._room.empty_place(wants)
        for worker in list(self._workers):
            self._retire(worker)
        self._exclusive = job.id
        self._give(self._start(place), job)

    def _give(self, worker: _Process, job: Job, *, again: bool = False) -> None:
        if not again:
            self._board.start(job)
        base, wants = self._board.base(job), self._board.needs(job)
        kept = worker.held_mib if base is None else 0
        self._room.idle(id(worker), 0)
        keep = kept > 0 and self._room.keeps(wants, worker.place, kept)
        worker.job = job
        self._room.take(job.id, wants, worker.place, kept if keep else 0)
        if base is not None or not keep:
            worker.holds, worker.held_mib = base, wants.base_mib if base else 0
        with contextlib.suppress(OSError):  # it died while it waited: `listen` hears of it
            worker.pipe.send((job, keep))
        self._watch(Event(job, Phase.STARTED))

    def _forget(self, worker: _Process) -> None:
        with contextlib.suppress(OSError):
            worker.pipe.send((None, False))
        worker.holds, worker.held_mib = None, 0
        self._room.idle(id(worker), 0)

    def _again(self, job: Job) -> None:
        for worker in list(self._workers):
            self._retire(worker)
        place = self._room.empty_place(self._board.needs(job))
        self._exclusive = job.id
        self._give(self._start(place), job, again=True)

    # --- hearing ---

    def listen(self) -> None:
        """Wait until something is told, and pass it on."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        if not busy:
            return
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                event = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if event.phase is Phase.PROGRESS:
                self._watch(event)
                continue
            job = worker.job
            assert job is not None
            worker.job = None
            self._returned(job)
            if event.phase is Phase.FAILED:
                worker.holds, worker.held_mib = None, 0
            self._room.idle(id(worker), worker.held_mib, worker.place)
            if event.lacked_memory and self._may_try_again(job):
                self._try_again(job, "it ran out of memory beside other jobs")
            else:
                self._end(job, event)

    def _bury(self, worker: _Process) -> None:
        """A worker process has died."""
        job = worker.job
        assert job is not None
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._returned(job)
        self._room.idle(id(worker), 0)
        code = worker.process.exitcode or 0
        if code == STOPPED:  # by somebody else: it was asked to end, and tidied up
            code = -signal.SIGTERM
        n_kills = machine.kills_for_memory()
        starved, self._n_kills = n_kills > self._n_kills, n_kills
        why = "the kernel ended its worker process for lack of memory" if starved else _death(code)
        if code < 0 and self._may_try_again(job):
            self._try_again(job, why)
            return
        remedy = "; use fewer --jobs, a smaller model or a machine with more" if starved else ""
        self._end(job, Event(job, Phase.FAILED, note=f"{why}{remedy}", lacked_memory=starved))

    def _returned(self, job: Job) -> None:
        self._room.give_back(job.id)
        if self._exclusive == job.id:
            self._exclusive = None

    def _may_try_again(self, job: Job) -> bool:
        return job.id not in self._lost

    def _try_again(self, job: Job, why: str) -> None:
        self._lost.add(job.id)
        self._alone.append(job)
        self._watch(Event(job, Phase.AGAIN, note=f"{why}; it is begun once more, alone"))

    def _end(self, job: Job, event: Event) -> None:
        well = event.phase is Phase.DONE
        self._watch(event)
        for other in self._board.end(job, well=well):
            self._watch(Event(other, Phase.SKIPPED, note="a job it builds on failed"))

    # --- processes ---

    def _start(self, place: str | None) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # Not a daemon: judging starts processes of its own.
        process = context.Process(target=_serve, args=(theirs, self._setting, os.getpid()))
        with contextlib.ExitStack() as stack:
            if place is not None:
                stack.enter_context(environment(DEVICES, place))
            process.start()
        theirs.close()
        worker = _Process(process, ours, place)
        self._workers.append(worker)
        return worker

    def _retire(self, worker: _Process) -> None:
        self._workers.remove(worker)
        self._room.idle(id(worker), 0)
        _stop([worker], 5.0)

    def stop(self, grace_s: float) -> None:
        """End all workers; those at work are asked to first."""
        _stop(self._workers, grace_s)


def _fits(room: Room, worker: _Process, base: str | None, wants: Needs) -> bool:
    return room.fits(wants, worker.place, worker.held_mib)


def _death(code: int) -> str:
    """How a process ended, by its exit status."""
    if code >= 0:
        return f"its worker process ended by itself (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its worker process was ended by {name}"


def _stop(workers: Iterable[_Process], grace_s: float) -> None:
    workers = list(workers)
    for worker in workers:
        if worker.job is None:
            worker.pipe.close()  # an idle one ends by itself
        elif worker.process.is_alive():
            worker.process.terminate()
    deadline = time.monotonic() + max(grace_s, 0.1)
    try:
        for worker in workers:
            _hear_out(worker, deadline)
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:  # also where the user is impatient
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.process.close()
            worker.pipe.close()


def _hear_out(worker: _Process, deadline: float) -> None:
    """Read what a worker that is to end still tells: one that nobody hears could not go on."""
    while not worker.pipe.closed and (left := deadline - time.monotonic()) > 0:
        try:
            if not worker.pipe.poll(left):
                return
            worker.pipe.recv()
        except (EOFError, OSError):
            return


# --- in the worker ----------------------------------------------------------------------------


def _serve(pipe: Connection, setting: Setting, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides when to stop
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()

    def tell(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:  # the launcher is gone
            raise SystemExit(1) from None

    try:
        with Worker(setting, n_threads=1) as worker:
            while True:
                job, keep = pipe.recv()
                if job is None:
                    worker.forget()
                else:
                    tell(worker.do(job, tell, keep=keep))
    except (EOFError, OSError):
        return
    except KeyboardInterrupt:
        raise SystemExit(STOPPED) from None


def _interrupt(*_: Any) -> None:
    """SIGTERM unwinds what is going on: folders are left tidy, and a sandbox ends its programs."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt


def _end_with_parent(parent: int) -> None:
    """Leave when the launcher was killed, so that its run folders are free again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


launcher = LocalLauncher()
