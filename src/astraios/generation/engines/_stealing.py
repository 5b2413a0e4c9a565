"""Rows of one request, claimed by whichever worker has room for more.

Every worker has the same list of rows and nothing is assigned beforehand. A worker that has room
says for how many rows, and is given the next ones, but never more than its share of those that are
left: so the first to ask does not take all, and towards the end the pieces become small.

    free       0 1 2 3 4 5 6 7        two workers; the first has room for 512 rows
    claimed    0 1 2 3                half of what is left
    free               4 5 6 7        the second asks
    claimed            4 5

What a worker had claimed and not answered when it died is free again.
"""

from __future__ import annotations

import heapq
import logging
import math
import queue
import threading
from collections.abc import Generator
from typing import Any

from astraios.errors import EngineError
from astraios.generation.engines._pool import Pool, Worker
from astraios.records import Sample

__all__ = ["Request"]

log = logging.getLogger(__name__)

MORE, NEXT = ("more",), ("next",)


class Request:
    """One call of `complete`: a thread hears the workers, so a slow reader keeps none of them.

    Args:
        pool: has workers that live.
        message: what each is told at first.
        n_rows: completions that are wanted.
    """

    def __init__(self, pool: Pool, message: Any, n_rows: int) -> None:
        self._pool = pool
        self._message = message
        self._free = list(range(n_rows))  # ascending, so it is a heap
        self._claimed: dict[Worker, set[int]] = {worker: set() for worker in pool.workers}
        self._idle: set[Worker] = set()
        self._n_missing = n_rows
        self._heard: queue.SimpleQueue[Sample | int | BaseException | None] = queue.SimpleQueue()

    def answers(self) -> Generator[Sample | int, None, None]:
        """Samples as they finish, and numbers of new tokens.

        Raises:
            AstraiosError: what a worker raised.
            EngineError: if all workers died, or answer another request.
        """
        with self._pool.asking():
            yield from self._answers()

    def _answers(self) -> Generator[Sample | int, None, None]:
        done = False
        self._pool.listener = thread = threading.Thread(target=self._listen, daemon=True)
        thread.start()
        try:
            while (heard := self._heard.get()) is not None:
                if isinstance(heard, BaseException):
                    raise heard
                yield heard
            done = True
        finally:
            if not done:  # the caller wants no more, or something failed
                self._pool.end()
            thread.join()
            self._pool.listener = None

    def _listen(self) -> None:
        try:
            for worker in list(self._pool.workers):
                self._pool.send(worker, self._message)
            while self._n_missing or len(self._idle) < len(self._pool.workers):
                for worker in self._pool.speaking():
                    self._hear(worker)
            for worker in self._pool.workers:
                self._pool.send(worker, NEXT)
                self._pool.value_of(worker)
        except BaseException as error:
            self._heard.put(error)
        else:
            self._heard.put(None)

    def _hear(self, worker: Worker) -> None:
        message = self._pool.receive(worker)
        if message is None:
            self._give_back(worker)
        elif message[0] == "claim":
            self._pool.send(worker, self._claim(worker, message[1]))
        elif message[0] == "sample":
            self._claimed[worker].discard(message[1])
            self._n_missing -= 1
            self._heard.put(message[2])
        elif message[0] == "progress":
            self._heard.put(message[1])
        elif message[0] == "idle":
            self._idle.add(worker)
            self._wake()

    def _claim(self, worker: Worker, room: int) -> list[int]:
        share = math.ceil(len(self._free) / len(self._pool.workers))
        taken = [heapq.heappop(self._free) for _ in range(min(room, share))]
        self._claimed[worker].update(taken)
        return taken

    def _give_back(self, worker: Worker) -> None:
        """Free what a dead worker left behind."""
        left = self._claimed.pop(worker)
        self._idle.discard(worker)
        for number in left:
            heapq.heappush(self._free, number)
        if left and not self._pool.ending:
            log.warning("%d completions it had begun are asked again of the others", len(left))
        self._wake()

    def _wake(self) -> None:
        """Idle workers look for rows again."""
        if self._free:
            for worker in self._idle:
                self._pool.send(worker, MORE)
            self._idle.clear()
        elif self._n_missing and len(self._idle) == len(self._pool.workers):
            raise EngineError(
                f"workers left {self._n_missing} completions unanswered; run the command again"
            )
