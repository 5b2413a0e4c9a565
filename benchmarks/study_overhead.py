"""What scheduling a study costs per job: jobs that do nothing, through launchers and without.

    python benchmarks/study_overhead.py [--jobs 10000] [--workers 2] [local] [ray]

Every job but the first hundred builds on another one. The baselines are given the same jobs without
their order: `multiprocessing.Pool.imap_unordered` one at a time, and one task of Ray for each with
no more of them waiting than are asked for at a time. Times include starting and ending workers, but
not Ray's cluster; beside them, the time from the first job that is done to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from astraios.config import Config, environment
from astraios.measure import Meter
from astraios.progress import Progress
from astraios.records import RunKind
from astraios.studies.bases import Bases
from astraios.studies.launchers import Event, Phase, Setting
from astraios.studies.plan import Job

WAITING = 64
"""Tasks of bare Ray that are asked for at a time."""


class Nothing(Config):
    """Config of a job that does nothing."""

    number: int


def nothing(job: Job, setting: Setting, progress: Progress, bases: Bases) -> None:
    """Do nothing."""


def jobs_of(n: int) -> list[Job]:
    """`n` jobs in a hundred chains."""
    return [
        Job(
            f"eval/model/method/seed0/task-{at}",
            RunKind.JUDGE,
            Nothing(number=at),  # type: ignore[arg-type]
            after=(f"eval/model/method/seed0/task-{at - 100}",) if at >= 100 else (),
            label=f"judge model method seed 0 task {at}",
        )
        for at in range(n)
    ]


class Clock:
    """Time of all that happens, and from the first end of a job to the last."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.first: float | None = None
        self.last = 0.0
        self.n = 0

    def done(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.n += 1

    def told(self, n: int) -> dict[str, float]:
        assert self.n == n, f"{self.n} of {n} jobs were done"
        steady = (self.last - (self.first or 0.0)) / max(1, n - 1)
        return {
            "ms_per_job": 1e3 * self.meter.wall_s / n,
            "ms_per_job_between": 1e3 * steady,
            "scheduler_cpu_ms_per_job": 1e3 * self.meter.cpu_s / n,
            "scheduler_peak_mib": self.meter.peak_mib,
        }


def by_launcher(name: str, jobs: Sequence[Job], n_workers: int) -> dict[str, float]:
    """All jobs through a launcher."""
    from astraios import registry
    from astraios.studies import launchers

    launcher = registry.load(launchers, "launcher", name)
    with tempfile.TemporaryDirectory() as root:
        setting = Setting(
            Path(root), "none", None, n_workers, options=launcher.Options(), perform=nothing
        )
        clock = Clock()

        def watch(event: Event) -> None:
            assert event.phase not in (Phase.FAILED, Phase.SKIPPED), event
            if event.phase is Phase.DONE:
                clock.done()

        launcher.launch(jobs, setting, watch)
        return clock.told(len(jobs))


def do_nothing(job: Job) -> str:
    """What the baselines run."""
    return job.id


def by_pool(jobs: Sequence[Job], n_workers: int) -> dict[str, float]:
    """The same jobs through the standard library's pool."""
    clock = Clock()
    with multiprocessing.get_context("spawn").Pool(n_workers) as pool:
        for _ in pool.imap_unordered(do_nothing, jobs):
            clock.done()
    return clock.told(len(jobs))


def by_bare_ray(jobs: Sequence[Job], n_workers: int) -> dict[str, float]:
    """The same jobs as tasks of Ray."""
    import ray

    clock = Clock()
    task = ray.remote(do_nothing)
    waiting: list[Any] = []
    todo = list(reversed(jobs))
    while todo or waiting:
        while todo and len(waiting) < WAITING:
            waiting.append(task.remote(todo.pop()))
        done, waiting = ray.wait(waiting)
        for one in done:
            ray.get(one)
            clock.done()
    return clock.told(len(jobs))


@contextlib.contextmanager
def cluster(n_workers: int) -> Iterator[None]:
    """A cluster of Ray on this machine, for the launcher and for its baseline."""
    import ray

    with (
        environment("RAY_USAGE_STATS_ENABLED", "0"),
        environment("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
    ):
        ray.init(
            "local",
            num_cpus=n_workers,
            log_to_driver=False,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
        )
        yield
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("launchers", nargs="*", default=["local", "ray"])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    jobs = jobs_of(asked.jobs)
    baselines: dict[str, tuple[str, Callable[..., dict[str, float]]]] = {
        "local": ("multiprocessing.Pool", by_pool),
        "ray": ("ray.remote", by_bare_ray),
    }
    for name in asked.launchers:
        against, measure = baselines[name]
        with cluster(asked.workers) if name == "ray" else contextlib.nullcontext():
            ours = by_launcher(name, jobs, asked.workers)
            base = measure(jobs, asked.workers)
        for who, told in ((name, ours), (against, base)):
            numbers = {key: round(value, 3) for key, value in told.items()}
            print(json.dumps({"by": who, "jobs": asked.jobs, **numbers}))
        for key in ("ms_per_job", "ms_per_job_between"):
            print(json.dumps({"ratio": key, "of": name, "to": against,
                              "is": round(ours[key] / base[key], 2)}))  # fmt: skip


if __name__ == "__main__":
    main()
