"""What a program's process gives up before the program runs, in the one order that works."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CHANNEL = 3
"""Descriptor of the verdict channel in a program's process; 0, 1 and 2 are the null device."""

_MIB = 1 << 20
_STACK_BYTES = 8 * _MIB  # the usual limit of a login shell: recursion in C ends where it does there
_N_FILES = 64


@dataclass(frozen=True)
class Limits:
    """The limits of one program, as they come in a message."""

    cpu_s: float
    wall_s: float
    memory_mib: int
    output_kib: int
    disk_mib: int
    n_tasks: int


@dataclass(frozen=True)
class Confinement:
    """What holds a program beside the resource limits."""

    uid: int | None
    """The unprivileged id to take; None to stay who we are."""
    capabilities: tuple[int, ...] | None
    """The capabilities to keep; None where there are none to give up."""
    filtered: bool
    """Whether system calls are filtered."""
    n_tasks_before: int | None
    """Tasks the user has already, which count against the limit; None if it cannot be set."""


class Child:
    """Puts `confinement` on the process of one program; made once a server."""

    def __init__(self, confinement: Confinement) -> None:
        self._confinement = confinement
        self._filter = None
        self._syscalls: ModuleType | None = None
        if confinement.capabilities is not None:
            from . import syscalls

            self._syscalls = syscalls
        if confinement.filtered:
            from . import seccomp

            self._filter = seccomp.Filter()

    def confine(self, limits: Limits, channel: int, folder: str) -> None:
        """Give up everything but `channel` (which becomes descriptor 3) and `folder`."""
        this = self._confinement
        os.setsid()
        os.chdir(folder)
        os.dup2(channel, CHANNEL)
        os.closerange(CHANNEL + 1, 256)
        if this.uid is not None:
            self._become(this.uid)
        if self._syscalls is not None:
            self._syscalls.set_capabilities(this.capabilities)
            self._syscalls.prctl(self._syscalls.PR_SET_DUMPABLE, 0)
        set_limits(limits, this.n_tasks_before)
        if self._filter is not None:
            self._filter.install(os.getpid())

    def _become(self, uid: int) -> None:
        os.setgroups([])
        if self._syscalls is not None and self._confinement.capabilities:
            self._syscalls.prctl(self._syscalls.PR_SET_KEEPCAPS, 1)
        if hasattr(os, "setresuid"):
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        else:
            os.setgid(uid)
            os.setuid(uid)


def set_limits(limits: Limits, n_tasks_before: int | None) -> None:
    """Set the resource limits of this process, hard and soft alike."""
    whole_s = int(limits.cpu_s) + 1  # the server watches the exact limit, this is the net below
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, whole_s + 1),
        (resource.RLIMIT_FSIZE, limits.disk_mib * _MIB),
        (resource.RLIMIT_NOFILE, _N_FILES),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_AS, limits.memory_mib * _MIB),
    ]
    if n_tasks_before is not None:
        wanted.append((resource.RLIMIT_NPROC, n_tasks_before + limits.n_tasks))
    for name, value in wanted:
        _, hard = resource.getrlimit(name)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(name, (bound, bound))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise
            # macOS refuses RLIMIT_AS and stack sizes; the levels' table says so.


def n_tasks_of_user() -> int | None:
    """Processes and threads of this user on the machine; None where that cannot be counted."""
    if not Path("/proc/self/status").exists():
        return None
    mine, n_tasks = os.geteuid(), 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if process.stat().st_uid == mine:
                    n_tasks += sum(1 for _ in (process / "task").iterdir())
            except OSError:  # it ended in between
                continue
    return n_tasks
