"""What runs on the nodes of a Ray cluster: workers, and the board they tell their progress to."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, final

from astraios.studies.launchers import Event, Setting
from astraios.studies.plan import Job
from astraios.studies.worker import Worker

EVERY_S = 0.5
"""How often progress is fetched, and the wish to stop is looked for."""


@final
class News:
    """What workers tell while they work, and whether they are to stop."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, int, str]] = {}
        self._begun: set[int] = set()
        self._stopping = False

    def tell(self, job: str, done: int, total: int, note: str) -> None:
        self._told[job] = (done, total, note)

    def begin(self, number: int) -> None:
        self._begun.add(number)

    def taken(self) -> tuple[dict[str, tuple[int, int, str]], set[int]]:
        """What was told since the last time; and the workers that have a process."""
        told, self._told = self._told, {}
        return told, self._begun

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping


@final
class Actor:
    """A `Worker` in a process of Ray."""

    def __init__(self, setting: Setting, place: Path, news: Any, number: int) -> None:
        if place.is_dir():
            os.chdir(place)  # paths of models in configs may be relative to it
        self._news, self._busy = news, False
        signal.signal(signal.SIGTERM, self._interrupt)
        threading.Thread(target=self._look_for_end, daemon=True).start()
        self._worker = Worker(setting, n_threads=1)
        news.begin.remote(number)

    def do(self, job: Job, keep: bool) -> Event:
        def tell(event: Event) -> None:
            self._news.tell.remote(job.id, event.done, event.total, event.note)

        self._busy = True
        try:
            return self._worker.do(job, tell, keep=keep)
        except KeyboardInterrupt:
            # By the launcher, which does not listen any more, or by a node that is taken away: a
            # worker that is lost has its job begun again.
            os._exit(128 + signal.SIGTERM)
        finally:
            self._busy = False

    def _interrupt(self, *_: Any) -> None:
        if self._busy:
            raise KeyboardInterrupt
        os._exit(0)

    def _look_for_end(self) -> None:
        """Interrupt the job when the launcher is to end: a training saves a checkpoint."""
        import ray

        while True:
            time.sleep(EVERY_S)
            try:
                if ray.get(self._news.stopping.remote()):
                    break
            except ray.exceptions.RayError:
                return  # the launcher is gone, and Ray ends this process
        os.kill(os.getpid(), signal.SIGTERM)
