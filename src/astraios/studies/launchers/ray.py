"""Worker processes on a cluster of Ray, or on one that is started here.

    address    an existing cluster (`auto`, `host:6379`); without, one on this machine
    GPUs       a job that needs accelerators has them for itself (Ray's `num_gpus`)
    memory     the needs of a job (`needs.py`) as Ray's `memory`

The study's folder has to be the same on all nodes. Workers write results there; this process only
says who does what, so it may die: Ray ends its workers, and the same command goes on with what is
missing. A job whose worker or node was lost is begun again, elsewhere, `retries` times; the folder
it left is free once its process is gone (see `locks` for nodes that vanish).

No figures of use are sent to Ray's makers, and no dashboard is started.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import final

from pydantic import Field

from astraios.config import Config, environment
from astraios.errors import MissingToolError, WorkError
from astraios.studies.bases import base_of
from astraios.studies.board import Board
from astraios.studies.launchers import Event, Launcher, Setting
from astraios.studies.launchers._ray_pool import MIB, Pool
from astraios.studies.needs import needs
from astraios.studies.plan import Job

OBJECTS_MIB = 100
"""Shared memory of a cluster that is started here: messages are all that goes through it."""
ATTEMPTS = 3
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Options(Config):
    """Options of the launcher `ray`."""

    address: str | None = None
    """Of a cluster, as `ray.init` takes it; None: one is started on this machine, and ended."""
    cpus_per_job: float = Field(default=1.0, gt=0)
    retries: int = Field(default=3, ge=0)
    """How often a job is begun again whose worker or node was lost."""
    patience_s: float = Field(default=120.0, ge=0)
    """How long a job waits for a node that has enough for it, as where nodes are added on demand
    or come back; then it fails."""
    grace_s: float = Field(default=30.0, ge=0)
    """How long workers may take to end when they are stopped."""


@final
class RayLauncher(Launcher):
    """See the module."""

    Options = Options
    elsewhere = True

    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        if find_spec("ray") is None:
            raise MissingToolError(
                "launcher 'ray' needs ray, which is not installed; install it with "
                "pip install 'astraios[ray]'. Nothing was run."
            )
        options: Options = self.options(setting)
        board = Board(jobs, needs=needs, base=base_of)
        with contextlib.ExitStack() as stack:
            for name, value in QUIET.items():
                stack.enter_context(environment(name, value))
            stack.enter_context(_connected(setting, options))
            pool = Pool(board, setting, options, watch)
            try:
                while not board.finished:
                    pool.hand_out()
                    pool.listen()
            finally:
                pool.stop(options.grace_s)


@contextlib.contextmanager
def _connected(setting: Setting, options: Options) -> Iterator[None]:
    """A connection to the cluster: the one there is, the one that is asked for, or a new one."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if options.address is None:
            _start_here(setting)
        else:
            _knock(options.address)
            ray.init(options.address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # those of Ray have no common root
        ray.shutdown()
        raise WorkError(
            f"no Ray cluster could be reached at {options.address or 'this machine'!r} "
            f"({error}); start one with `ray start --head`, or leave `address` out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_here(setting: Setting) -> None:
    """Start a cluster on this machine, whose processes end with this one."""
    import ray

    memory = setting.max_memory_mib
    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                "local",
                logging_level=logging.ERROR,
                num_cpus=setting.n_workers,
                object_store_memory=OBJECTS_MIB * MIB,
                _memory=None if memory is None else int(memory * MIB),
                log_to_driver=False,
                include_dashboard=False,
            )
        except Exception as error:
            # Ray gives its processes 30 s to begin, which a machine that is busy may not keep.
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt + 1 == ATTEMPTS:
                raise
        else:
            return


def _knock(address: str) -> None:
    """Whether anybody listens there; Ray itself would wait for minutes.

    Raises:
        OSError: if not.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


launcher = RayLauncher()
