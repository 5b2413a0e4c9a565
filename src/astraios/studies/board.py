"""Which jobs of a study wait, may start, run, and have ended.

Every job and every line of a job's `after` is looked at once, so ten thousand jobs cost ten
thousand steps. Jobs that may start are kept in groups of equal base model and equal needs: whoever
looks for one looks at the first of each group.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import final

from astraios.errors import ConfigError
from astraios.studies.needs import Needs
from astraios.studies.plan import Job

__all__ = ["Board"]

_Group = tuple[str | None, Needs]


@final
class Board:
    """The jobs of one launch.

    Args:
        jobs: in the order they are wanted. What is in `after` and not among them counts as done.
        needs: what each job takes.
        base: the base model that a job has in memory, by `bases.base_of`; None for none.

    Raises:
        ConfigError: if a job is named twice or jobs wait for each other in a circle.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        needs: Callable[[Job], Needs] = lambda job: Needs(),
        base: Callable[[Job], str | None] = lambda job: None,
    ) -> None:
        self._jobs = {job.id: job for job in jobs}
        if len(self._jobs) < len(jobs):
            raise ConfigError("a job is planned twice; each run folder is filled by one job")
        self._place = {name: at for at, name in enumerate(self._jobs)}
        self._group: dict[str, _Group] = {job.id: (base(job), needs(job)) for job in jobs}
        self._followers: dict[str, list[str]] = {}
        self._n_before: dict[str, int] = {}
        self._ready: dict[_Group, list[int]] = {}
        self._order = tuple(self._jobs.values())
        self._running: set[str] = set()
        self._n_waiting = len(jobs)
        for job in jobs:
            before = {name for name in job.after if name in self._jobs}
            self._n_before[job.id] = len(before)
            for name in before:
                self._followers.setdefault(name, []).append(job.id)
        self._refuse_circles()
        for job in jobs:
            if not self._n_before[job.id]:
                self._make_ready(job)

    def _refuse_circles(self) -> None:
        left = dict(self._n_before)
        free = [name for name, n in left.items() if not n]
        while free:
            for name in self._followers.get(free.pop(), ()):
                left[name] -= 1
                if not left[name]:
                    free.append(name)
        stuck = [name for name, n in left.items() if n]
        if stuck:
            raise ConfigError(
                f"job {stuck[0]!r} waits for itself, directly or through others; the jobs of a "
                "study must not build on each other in a circle"
            )

    def _make_ready(self, job: Job) -> None:
        heapq.heappush(self._ready.setdefault(self._group[job.id], []), self._place[job.id])

    @property
    def finished(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._n_waiting and not self._running

    @property
    def n_ready(self) -> int:
        return sum(map(len, self._ready.values()))

    def base(self, job: Job) -> str | None:
        """The base model that `job` has in memory."""
        return self._group[job.id][0]

    def needs(self, job: Job) -> Needs:
        """What `job` takes."""
        return self._group[job.id][1]

    def first(
        self,
        holds: str | None = None,
        fits: Callable[[str | None, Needs], bool] = lambda base, needs: True,
    ) -> Job | None:
        """The job to start next, for a worker that has the base model `holds` in memory.

        That is the first in order of those that need no other base; else of all.

        Args:
            holds: base of the worker; None: it has none.
            fits: told the base and the needs of a group of jobs, whether there is room for one.
        """
        best: tuple[bool, int] | None = None
        for (base, needs), places in self._ready.items():
            rank = (base is not None and base != holds, places[0])
            if (best is None or rank < best) and fits(base, needs):
                best = rank
        return None if best is None else self._order[best[1]]

    def start(self, job: Job) -> None:
        """`job`, which is the first of its group, runs."""
        group = self._group[job.id]
        places = self._ready[group]
        if self._order[places[0]].id != job.id:
            raise ValueError(f"{job.id!r} is not what `first` gave")
        heapq.heappop(places)
        if not places:
            del self._ready[group]
        self._running.add(job.id)
        self._n_waiting -= 1

    def again(self, job: Job) -> None:
        """`job` was lost while it ran and is ready once more."""
        self._running.remove(job.id)
        self._n_waiting += 1
        self._make_ready(job)

    def end(self, job: Job, *, well: bool) -> list[Job]:
        """`job` has ended.

        Returns:
            If it failed, the jobs that cannot run any more for it; they are ended too.
        """
        self._running.remove(job.id)
        if not well:
            return self._drop_followers(job)
        for name in self._followers.get(job.id, ()):
            self._n_before[name] -= 1
            if self._n_before[name] == 0:
                self._make_ready(self._jobs[name])
        return []

    def _drop_followers(self, job: Job) -> list[Job]:
        dropped: list[Job] = []
        todo = [job.id]
        while todo:
            for name in self._followers.get(todo.pop(), ()):
                if self._n_before[name] >= 0:
                    self._n_before[name] = -1  # never ready, whatever else it waits for
                    self._n_waiting -= 1
                    dropped.append(self._jobs[name])
                    todo.append(name)
        return sorted(dropped, key=lambda one: self._place[one.id])
