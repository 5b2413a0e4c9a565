"""Ending processes, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from os import kill as send_signal
from os import killpg, waitpid


def quick_fork() -> Callable[[], int]:
    """A fork for a process without threads.

    `os.fork` runs what modules asked for: new seeds, locks made anew. Here no lock is held and
    seeds shall stay; all it does is touch memory, which the child then has to copy.
    """
    if sys.platform != "linux":
        return os.fork
    try:
        import ctypes
    except ImportError:
        return os.fork
    call = ctypes.PyDLL(None, use_errno=True).fork

    def fork() -> int:
        pid = int(call())
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return pid

    return fork


def keep(thing: object) -> None:
    """Never free `thing`: to free it, a new process would have to copy where it lies."""
    with contextlib.suppress(ImportError):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def kill(pid: int) -> None:
    """End a process; it may have ended already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send_signal(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """End a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        killpg(pid, signal.SIGKILL)


def end_all(alone: bool, spared: int | None = None) -> None:
    """End every process that a program left, and collect them.

    Args:
        alone: whether this is process 1, so that -1 means every process but this one.
        spared: a child that stays; only where this is not process 1.
    """
    if not alone:
        _kill_descendants(spared)
        if spared is not None:
            return
    else:
        kill(-1)
    while True:
        try:
            waitpid(-1, 0)
        except ChildProcessError:
            return


def _children(spared: int | None) -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listing:  # noqa: PTH123
            return [pid for pid in map(int, listing.read().split()) if pid != spared]
    except OSError:
        return []


def _kill_descendants(spared: int | None) -> None:
    """Orphans become our children (subreaper), so none gets away."""
    while found := _children(spared):
        for pid in found:
            kill(pid)
            with contextlib.suppress(ChildProcessError):
                waitpid(pid, 0)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far; 0 where the platform does not tell."""
    if sys.platform != "linux":
        return 0.0
    try:
        return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process
    except OSError:  # it ended; the channel will say so
        return 0.0


def signal_name(number: int) -> str:
    """`SIGSEGV`, or the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
