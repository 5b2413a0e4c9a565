"""Worker processes of engine hf, one a device: begun, asked, and given up when they die."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from astraios.errors import EngineError
from astraios.generation import Model
from astraios.generation.engines._worker import Start, serve

__all__ = ["LOST", "Pool", "Worker"]

log = logging.getLogger(__name__)

LOST = (EOFError, OSError)
"""What a pipe raises whose other end is gone."""
PRELOADED = [serve.__module__, "transformers.models.auto.modeling_auto", "peft"]
IMPORTED = (
    "A worker imports the script that begins it: that has to be a file, not read from a pipe, and "
    "has to open the engine under `if __name__ == '__main__':`"
)
BASE = 0
"""The engine that every worker has from its beginning."""


@dataclass(eq=False)
class Worker:
    """One process and the pipe to it."""

    number: int
    device: str
    process: BaseProcess
    pipe: Connection
    life: Connection
    """Never written to: the worker ends when it is closed, or when this process ends."""
    has_begun: bool = False
    """Whether anything was heard of it."""

    def death(self) -> str:
        """How it ended, for a message."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by signal {-code} ({signal.Signals(-code).name})"
        return f"exit status {code}"

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.life.close()


class Pool:
    """The workers of one model.

    They are begun at once, and anew when something is asked after they were ended.

    Raises:
        AstraiosError: what a worker raises while it loads.
    """

    def __init__(
        self, opener: Callable[[Model], Any], model: Model, devices: Sequence[str]
    ) -> None:
        self._opener = opener
        self._model = replace(model, options=dict(model.options))  # a plain one can be pickled
        self._devices = devices
        self.workers: list[Worker] = []
        self.ending = False
        """Whether workers are being ended, so that their deaths are no news."""
        self.generation = 0
        """How often they were begun; engines opened before are gone."""
        self.peaks_mib: dict[int, float] = {}
        """Largest memory of each worker, by its number."""
        self.cpu_s: dict[int, float] = {}
        """CPU time of each worker process as it told last, by the process's id."""
        self.listener: threading.Thread | None = None
        """Hears the workers of a request."""
        self.is_asked = threading.Lock()
        """Held while a request is being answered: the pipes carry one at a time."""
        self.facts: tuple[dict[str, str], int] = ({}, 0)
        self.begin()

    def begin(self) -> None:
        """Begin the workers if there are none."""
        if self.workers:
            return
        self.ending = False
        # A server that has imported what all need, and from which each worker is a fork: unlike a
        # fork of this process, it has no threads and has not touched an accelerator.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOADED, self._opener.__module__])
        level = logging.getLogger("astraios").getEffectiveLevel()
        for number, device in enumerate(self._devices):
            ours, theirs = context.Pipe()
            their_life, our_life = context.Pipe(duplex=False)
            start = Start(self._opener, self._model, device, number, len(self._devices), level)
            process = context.Process(
                target=serve, args=(start, theirs, their_life), name=f"hf-{device}", daemon=True
            )
            process.start()
            theirs.close()
            their_life.close()
            self.workers.append(Worker(number, device, process, ours, our_life))
        self.generation += 1
        self.facts = self._from_all()

    def end(self) -> None:
        """Kill all workers."""
        self.ending = True
        for worker in list(self.workers):
            worker.process.kill()
        if self.listener is not None:
            self.listener.join()  # it hears that they are gone, and uses their pipes until then
        for worker in self.workers:
            worker.end()
        self.workers = []

    def open(self, engine: int, method: str | None, adapter: Path | None) -> Any:
        """Put an adapter on the base in every worker; the facts about the engine."""
        with self.asking():
            for worker in list(self.workers):
                self.send(worker, ("open", engine, method, adapter))
            return self._from_all()

    def close(self, engine: int) -> None:
        """Forget an engine in every worker."""
        with self.asking():
            for worker in list(self.workers):
                self.send(worker, ("close", engine))
            self._from_all()

    def call(self, engine: int, name: str, *arguments: Any) -> Any:
        """What a method of an engine returns, from the first worker that lives to tell."""
        (told,) = self.map(engine, name, [arguments])
        return told

    def map(self, engine: int, name: str, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """What a method returns for each of `calls`, in order; idle workers take the next one."""
        with self.asking():
            yield from self._map(engine, name, calls)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """What one request is answered in.

        Raises:
            EngineError: if another one is.
        """
        if not self.is_asked.acquire(blocking=False):
            raise EngineError(
                "the worker processes are busy with another request of this model; read its "
                "answers to the end, or close its iterator first"
            )
        try:
            yield
        finally:
            self.is_asked.release()

    def _map(self, engine: int, name: str, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        waiting = deque(range(len(calls)))
        busy: dict[Worker, int] = {}
        found: dict[int, Any] = {}
        done = 0
        try:
            while done < len(calls):
                for worker in self.workers:
                    if waiting and worker not in busy:
                        busy[worker] = waiting.popleft()
                        self.send(worker, ("call", engine, name, *calls[busy[worker]]))
                for worker in self.speaking(list(busy)):
                    message = self.receive(worker)
                    if message is None:
                        waiting.appendleft(busy.pop(worker))
                    elif message[0] == "value":
                        found[busy.pop(worker)] = message[1]
                while done in found:
                    done += 1
                    yield found.pop(done - 1)
        finally:
            if done < len(calls):
                self.end()

    # --- messages -------------------------------------------------------------------------------

    def send(self, worker: Worker, message: Any) -> None:
        """Say `message`; that a worker is gone is noticed when it is listened to."""
        try:
            worker.pipe.send(message)
        except LOST:
            return

    def receive(self, worker: Worker) -> tuple[Any, ...] | None:
        """What `worker` says next; None if it has died, after which it is no worker any more.

        Raises:
            AstraiosError: what the worker raised.
            EngineError: if it was the last one, or ended before it began.
        """
        try:
            message: tuple[Any, ...] = worker.pipe.recv()
        except LOST:
            self._bury(worker)
            return None
        worker.has_begun = True
        if message[0] == "error":
            raise message[1]
        if message[0] == "log":
            logging.getLogger(message[1].name).handle(message[1])
        elif message[0] == "usage":
            known_mib = self.peaks_mib.get(worker.number, 0.0)
            self.peaks_mib[worker.number] = max(known_mib, message[1])
            self.cpu_s[worker.process.pid or 0] = message[2]
        return message

    def _bury(self, worker: Worker) -> None:
        self.workers.remove(worker)
        death = worker.death()
        worker.end()
        if self.ending:
            if not self.workers:
                raise EngineError("the worker processes were ended while they answered")
            return
        if not worker.has_begun and (worker.process.exitcode or 0) > 0:
            raise EngineError(
                f"the worker on {worker.device} ended before it began ({death}; its own words are "
                f"above). {IMPORTED}"
            )
        if not self.workers:
            raise EngineError(
                f"all worker processes have died, the last one on {worker.device} "
                f"({death}); if memory ran out give a smaller budget (batch_tokens), and run "
                "the command again: what was answered is kept"
            )
        log.warning("the worker on %s has died (%s)", worker.device, death)

    def speaking(self, workers: Sequence[Worker] | None = None) -> list[Worker]:
        """Those of `workers`, of all by default, that have said something or died; waits for it."""
        asked = self.workers if workers is None else workers
        ready = wait([worker.pipe for worker in asked])
        return [worker for worker in asked if worker.pipe in ready]

    def value_of(self, worker: Worker) -> Any:
        """The value that `worker` answers with; None if it dies instead."""
        message = self.receive(worker)
        while message is not None and message[0] != "value":
            message = self.receive(worker)
        return None if message is None else message[1]

    def _from_all(self) -> Any:
        """The value that every worker answers with."""
        try:
            values = [self.value_of(worker) for worker in list(self.workers)]
        except BaseException:
            self.end()
            raise
        return next((value for value in values if value is not None), None)
