"""Many requests to one server at once; answers come in the order they are ready.

The requests live in an event loop of their own thread, so that those in flight can be cancelled at
any moment: a server that sees its connection closed stops drawing tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from astraios.errors import AstraiosError, EngineError
from astraios.generation.engines._http import Client, Failed, Refused, Server, Tries

__all__ = ["Asker"]

J = TypeVar("J")
R = TypeVar("R")

MIN_ROW = 8
"""Requests in a row without an answer that are put up with, at least."""
TICK_S = 0.2
CLOSE_S = 5.0
"""How long connections that are cancelled may take to close."""

_END = object()


class Asker:
    """Sends requests to a server, so many at once.

    Args:
        server: who is asked.
        n_at_once: requests in flight.
        tries: how often each is sent.
        explain: the error to end with when the server says that a request is wrong.
        check: called now and then; raises what ends everything, such as a server process that died.
    """

    def __init__(
        self,
        server: Server,
        n_at_once: int,
        tries: Tries,
        explain: Callable[[Refused, Any], AstraiosError],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = server
        self._n_at_once = n_at_once
        self._tries = tries
        self._explain = explain
        self._check = check
        self._n_new = 0

    def count(self, n_tokens: int) -> None:
        """Note tokens that arrived, for the progress that is told."""
        self._n_new += n_tokens

    def each(
        self,
        jobs: Sequence[J],
        work: Callable[[Client, J], Awaitable[R]],
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[tuple[J, R | Failed]]:
        """Each job with what `work` makes of it, or why there is no answer after all tries.

        Closing the iterator cancels what is in flight; what is not sent is not sent.

        Raises:
            EngineError: if a long row of requests had no answer; or as `explain` says.
        """
        if not jobs:
            return
        said: SimpleQueue[Any] = SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._all(jobs, work, said))
        thread = Thread(target=_run, args=(loop, task, said), daemon=True, name="requests")
        thread.start()
        try:
            while True:
                try:
                    one = said.get(timeout=TICK_S)
                except Empty:
                    one = None
                self._tell(progress)
                if one is _END:
                    return
                failed = isinstance(one, tuple) and isinstance(one[1], Failed)
                if one is None or failed or isinstance(one, BaseException):
                    self._check()  # a server process that died says why, a connection does not
                if isinstance(one, BaseException):
                    raise one
                if one is not None:
                    yield one
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(task.cancel)
            thread.join(CLOSE_S)

    def map(
        self, jobs: Sequence[J], work: Callable[[Client, J], Awaitable[R]], doing: str
    ) -> list[R]:
        """What `work` makes of the jobs, in their order.

        Raises:
            EngineError: if one of them has no answer, naming what was being done.
        """
        numbered = list(enumerate(jobs))
        results: dict[int, R] = {}
        for (number, _), result in self.each(numbered, lambda c, job: work(c, job[1])):
            if isinstance(result, Failed):
                raise EngineError(f"{doing}: {result}; run the command again")
            results[number] = result
        return [results[number] for number, _ in numbered]

    def _tell(self, progress: Callable[[int], Any] | None) -> None:
        n_new, self._n_new = self._n_new, 0
        if progress is not None and n_new:
            progress(n_new)

    async def _all(
        self,
        jobs: Sequence[J],
        work: Callable[[Client, J], Awaitable[R]],
        said: SimpleQueue[Any],
    ) -> None:
        waiting = iter(jobs)
        breaker = _Breaker(max(MIN_ROW, 2 * self._n_at_once))
        async with self._server.client() as client:

            async def worker() -> None:
                for job in waiting:  # one iterator for all workers: they share a thread
                    said.put((job, await self._one(partial(work, client, job), job, breaker)))
                    breaker.check()

            workers = [
                asyncio.ensure_future(worker()) for _ in range(min(self._n_at_once, len(jobs)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _one(
        self, attempt: Callable[[], Awaitable[R]], job: Any, breaker: _Breaker
    ) -> R | Failed:
        try:
            result = await self._tries.run(attempt)
        except Failed as failure:
            # a reply that is no completion may repeat the key
            failure = Failed(self._server.clean(str(failure)), again=False)
            breaker.failed(failure)
            return failure
        except Refused as refused:
            raise self._explain(refused, job) from None
        breaker.answered()
        return result


class _Breaker:
    """Gives up once a long row of requests had no answer."""

    def __init__(self, n_allowed: int) -> None:
        self._n_allowed = n_allowed
        self._n_failed = 0
        self._last = ""

    def answered(self) -> None:
        self._n_failed = 0

    def failed(self, failure: Failed) -> None:
        self._n_failed += 1
        self._last = str(failure)

    def check(self) -> None:
        if self._n_failed >= self._n_allowed:
            raise EngineError(
                f"{self._n_failed} requests in a row had no answer, the last one because: "
                f"{self._last}. What was answered is kept; mend the server and run the command "
                "again"
            )


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], said: SimpleQueue[Any]) -> None:
    """The thread of one `each`."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(task)
        said.put(_END)
    except BaseException as error:  # told to the thread that asked
        said.put(error)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
