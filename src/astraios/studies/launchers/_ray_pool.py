"""The workers of one launch on a Ray cluster: who is hired, asked, lost and dismissed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from astraios.studies.board import Board
from astraios.studies.launchers import Event, Phase, Setting
from astraios.studies.launchers._ray_actor import EVERY_S, Actor, News
from astraios.studies.needs import Needs
from astraios.studies.plan import Job

if TYPE_CHECKING:
    from astraios.studies.launchers.ray import Options

MIB = 2**20
ROOM_S = 5.0
"""A worker that has not begun for so long waits for room: idle ones then give up theirs."""


@dataclass(frozen=True)
class _Shape:
    """What a worker has of its node."""

    n_gpus: int
    mib: int


@dataclass(eq=False)
class _Remote:
    actor: Any
    shape: _Shape
    number: int
    job: Job | None = None
    holds: str | None = None
    since: float = 0.0
    """When it was asked what it is asked now."""
    has_begun: bool = False
    """Whether there is a process: a worker waits for its node to have room."""


@final
class Pool:
    """The workers of one launch."""

    def __init__(
        self, board: Board, setting: Setting, options: Options, watch: Callable[[Event], None]
    ) -> None:
        import ray

        self._ray = ray
        self._board, self._options, self._watch = board, options, watch
        root = setting.root.resolve()
        data_dir = setting.data_dir.resolve() if setting.data_dir else None
        self._setting = replace(setting, root=root, data_dir=data_dir)
        self._actor = ray.remote(Actor)
        self._news = ray.remote(News).options(num_cpus=0, max_restarts=-1).remote()
        self._fetching: Any = None
        self._fetched = time.monotonic()
        self._workers: list[_Remote] = []
        self._n_hired = 0
        self._asked: dict[Any, _Remote] = {}
        """What a worker was asked -> the worker."""
        self._lost: dict[str, int] = {}
        """Job -> how often its worker was lost."""
        self._starved: set[str] = set()
        """Jobs that ran out of memory once."""
        self._alone: list[Job] = []
        """Of those, the ones that wait to run with nothing beside them, on the largest node."""
        self._exclusive: str | None = None
        self._waits_since: float | None = None
        self._nodes: list[Mapping[str, float]] = []
        self._looked = -math.inf

    # --- giving work ---

    def hand_out(self) -> None:
        """Ask idle workers, or new ones, for every job that there is room for."""
        self._look()
        if self._exclusive is None and self._alone:
            if not self._asked:
                self._give_alone(self._alone.pop())
        elif self._exclusive is None:
            while self._board.n_ready and self._start_one():
                pass
        waits = [w for w in self._workers if w.job and not w.has_begun]
        if any(time.monotonic() - worker.since > ROOM_S for worker in waits):
            for worker in [one for one in self._workers if one.job is None]:
                self._dismiss(worker)  # what it keeps may be what is lacking

    def _look(self) -> None:
        """What the nodes that are alive have in all; asked once a second at most."""
        if time.monotonic() - self._looked >= 1.0:
            self._looked = time.monotonic()
            self._nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _start_one(self) -> bool:
        idle = [worker for worker in self._workers if worker.job is None]
        for worker in sorted(idle, key=lambda one: one.holds is None):
            job = self._board.first(worker.holds, partial(self._serves, worker))
            if job is not None:
                self._give(worker, job)
                return True
        if len(self._workers) >= self._n_workers():
            if not idle:
                return False
            self._dismiss(idle[0])
        job = self._board.first(None, lambda base, wants: self._has_node(self._shape(wants)))
        if job is None:
            return self._wait_for_node()
        self._waits_since = None
        self._give(self._hire(self._shape(self._board.needs(job))), job)
        return True

    def _n_workers(self) -> int:
        if self._setting.n_workers:
            return self._setting.n_workers
        n = sum(node.get("CPU", 0.0) for node in self._nodes)
        return max(1, int(n / self._options.cpus_per_job))

    def _shape(self, wants: Needs) -> _Shape:
        has_gpus = any(node.get("GPU") for node in self._nodes)
        return _Shape(wants.n_devices if has_gpus else 0, wants.host_mib or 0)

    def _give_alone(self, job: Job) -> None:
        """Begin a job again where nothing is beside it."""
        for worker in list(self._workers):
            self._dismiss(worker)
        shape = self._shape(self._board.needs(job))
        most = max((node.get("memory", 0.0) for node in self._nodes), default=0.0)
        self._exclusive = job.id
        self._give(self._hire(replace(shape, mib=max(shape.mib, int(most / MIB)))), job)

    def _serves(self, worker: _Remote, base: str | None, wants: Needs) -> bool:
        shape = self._shape(wants)
        return worker.shape.n_gpus == shape.n_gpus and worker.shape.mib >= shape.mib

    def _has_node(self, shape: _Shape) -> bool:
        return any(
            node.get("CPU", 0.0) >= self._options.cpus_per_job
            and node.get("GPU", 0.0) >= shape.n_gpus
            and node.get("memory", math.inf) >= shape.mib * MIB
            for node in self._nodes
        )

    def _wait_for_node(self) -> bool:
        """No node has what any ready job needs."""
        if self._asked:
            return False
        if self._waits_since is None:
            self._waits_since = time.monotonic()
        if time.monotonic() - self._waits_since < self._options.patience_s:
            return False
        job = self._board.first()
        assert job is not None
        shape = self._shape(self._board.needs(job))
        most = max((node.get("memory", 0.0) for node in self._nodes), default=0.0) / MIB
        self._board.start(job)
        self._end(
            job,
            Event(
                job,
                Phase.FAILED,
                note=f"no node of the cluster has {shape.mib:,} MiB of memory, {shape.n_gpus} GPUs "
                f"and {self._options.cpus_per_job:g} CPUs for it (of {len(self._nodes)} nodes, "
                f"the most memory is {most:,.0f} MiB); add a node",
            ),
        )
        return True

    def _hire(self, shape: _Shape) -> _Remote:
        self._n_hired += 1
        actor = self._actor.options(
            num_cpus=self._options.cpus_per_job,
            num_gpus=shape.n_gpus,
            memory=shape.mib * MIB,
            scheduling_strategy="SPREAD",
            max_restarts=0,
        ).remote(self._setting, Path.cwd(), self._news, self._n_hired)
        worker = _Remote(actor, shape, self._n_hired)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Remote) -> None:
        self._forget(worker)
        self._ray.kill(worker.actor)

    def _forget(self, worker: _Remote) -> None:
        if worker in self._workers:
            self._workers.remove(worker)

    def _give(self, worker: _Remote, job: Job) -> None:
        if self._exclusive != job.id:
            self._board.start(job)
        worker.job, worker.since = job, time.monotonic()
        base = self._board.base(job)
        wants = self._board.needs(job)
        # A base is kept beside a job that does not use it where the worker has memory for both.
        keep = base is None and worker.shape.mib >= 2 * (wants.host_mib or worker.shape.mib)
        worker.holds = base if base is not None or not keep else worker.holds
        self._asked[worker.actor.do.remote(job, keep)] = worker
        self._watch(Event(job, Phase.STARTED))

    # --- hearing ---

    def listen(self) -> None:
        """Wait a moment for something to be told, and pass it on."""
        if not self._asked:
            if not self._board.finished:
                time.sleep(EVERY_S)
            return
        told, _ = self._ray.wait(list(self._asked), timeout=EVERY_S)
        for answer in told:
            self._hear(answer)
        self._fetch_news()

    def _hear(self, answer: Any) -> None:
        worker = self._asked.pop(answer)
        job = worker.job
        assert job is not None
        worker.job, worker.has_begun = None, True
        if self._exclusive == job.id:
            self._exclusive = None
            self._workers.remove(worker)  # it has a whole node's memory, and ends with its handle
        try:
            event = self._ray.get(answer)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError) as error:
            self._forget(worker)
            self._looked = -math.inf
            if "creation task" in str(error):  # Astraios is not there, or is another version
                note = f"no worker could be made on the cluster: {error}"
                self._end(job, Event(job, Phase.FAILED, note=note))
                return
            self._lose(job, _first_line(error), "memory" in str(error).lower())
            return
        except self._ray.exceptions.RayError as error:
            self._dismiss(worker)
            self._end(job, Event(job, Phase.FAILED, note=str(error)))
            return
        if event.phase is Phase.FAILED:
            worker.holds = None
        if event.lacked_memory and job.id not in self._starved:
            self._dismiss(worker)
            self._lose(job, "it ran out of memory", True)
        else:
            self._end(job, event)

    def _lose(self, job: Job, why: str, starved: bool) -> None:
        """The worker of `job`, or its node, is gone."""
        n = self._lost[job.id] = self._lost.get(job.id, 0) + 1
        if starved:
            self._starved.add(job.id)
        if n > self._options.retries:
            note = f"its worker was lost {n} times, last because {why}"
            self._end(job, Event(job, Phase.FAILED, note=note, lacked_memory=starved))
            return
        if starved:
            self._alone.append(job)
        else:
            self._board.again(job)
        self._watch(Event(job, Phase.AGAIN, note=f"its worker was lost ({why}); it is begun again"))

    def _end(self, job: Job, event: Event) -> None:
        self._watch(event)
        for other in self._board.end(job, well=event.phase is Phase.DONE):
            self._watch(Event(other, Phase.SKIPPED, note="a job it builds on failed"))

    def _fetch_news(self) -> None:
        """Progress since the last time; asked for without waiting."""
        if self._fetching is not None:
            ready, _ = self._ray.wait([self._fetching], timeout=0)
            if not ready:
                return
            running = {worker.job.id: worker.job for worker in self._workers if worker.job}
            with contextlib.suppress(self._ray.exceptions.RayError):
                told, begun = self._ray.get(self._fetching)
                for worker in self._workers:
                    worker.has_begun |= worker.number in begun
                for name, (done, total, note) in told.items():
                    if name in running:
                        self._watch(Event(running[name], Phase.PROGRESS, done, total, note))
            self._fetching = None
        if time.monotonic() - self._fetched >= EVERY_S:
            self._fetched = time.monotonic()
            self._fetching = self._news.taken.remote()

    def stop(self, grace_s: float) -> None:
        """End all workers; those at work are asked to first."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            if self._asked:
                self._news.stop.remote()
                n = len(self._asked)
                self._ray.wait(list(self._asked), num_returns=n, timeout=grace_s)
            for worker in self._workers:
                self._ray.kill(worker.actor)
            self._ray.kill(self._news)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
