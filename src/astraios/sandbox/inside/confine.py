"""What a program's process gives up before the program runs, in the one order that works."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from os import chdir, closerange, dup2, getpid, setgid, setgroups, setsid, setuid
from pathlib import Path
from resource import setrlimit

CHANNEL = 3
"""Descriptor of the verdict channel in a program's process; 0, 1 and 2 are the null device."""

_MIB = 1 << 20
_STACK_BYTES = 8 * _MIB  # the usual limit of a login shell: recursion in C ends where it does there
_RESERVED = 32
"""Address space in units of memory, for runtimes that reserve it."""
_N_DESCRIPTORS = 256
"""More than a server ever has open."""

# By name, here and in the other files that run after it: `original.take_away` sets many to None.
_SET_ALL_IDS = (os.setresgid, os.setresuid) if hasattr(os, "setresuid") else None


@dataclass(frozen=True)
class Limits:
    """The limits of one program, as they come in a message."""

    cpu_s: float
    wall_s: float
    memory_mib: int
    output_kib: int
    disk_mib: int
    n_tasks: int
    n_files: int = 64
    data_only: bool = False
    """Whether `memory_mib` bounds what can be written to, not the address space: for runtimes that
    reserve far more than they use."""
    reserved_mib: int = 0
    """How much more address space there is then; 0 for a multiple of the memory."""


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
    """Puts `confinement` on the process of one program.

    Made once a server, with all that can be prepared: a new process has to copy what it touches.
    """

    def __init__(self, confinement: Confinement, kind: str = "program") -> None:
        """
        Args:
            confinement: what to put on.
            kind: of system call filter; see `seccomp.KINDS`.
        """
        self._uid = confinement.uid
        self._n_tasks_before = confinement.n_tasks_before
        self._keep_capabilities = self._drop_capabilities = self._filter = None
        if confinement.capabilities is not None:
            from . import syscalls

            # A change from root to another id drops all of them by itself.
            if confinement.uid is None or confinement.capabilities:
                self._drop_capabilities = syscalls.prepared_capabilities(confinement.capabilities)
            if confinement.uid is not None and confinement.capabilities:
                self._keep_capabilities = syscalls.keep_capabilities
        if confinement.filtered:
            from . import seccomp

            self._filter = seccomp.Filter(kind)
        self._limits: tuple[tuple[int, tuple[int, int]], ...] = ()

    def prepare(self, limits: Limits) -> None:
        """Take `limits` for the processes that follow."""
        self._limits = _resource_limits(limits, self._n_tasks_before)

    def confine(self, channel: int, folder: str) -> None:
        """Give up everything but `channel` (which becomes descriptor 3) and `folder`."""
        setsid()
        chdir(folder)
        dup2(channel, CHANNEL)
        closerange(CHANNEL + 1, _N_DESCRIPTORS)
        self._give_up()

    def _give_up(self) -> None:
        if self._uid is not None:
            self._become(self._uid)
        if self._drop_capabilities is not None:
            self._drop_capabilities()
        for name, pair in self._limits:
            setrlimit(name, pair)
        if self._filter is not None:
            self._filter.install(getpid())

    def confine_command(self, folder: str, first_closed: int) -> None:
        """Give up everything but `folder` and the descriptors below `first_closed`, which the
        caller has put in their places."""
        setsid()
        chdir(folder)
        closerange(first_closed, _N_DESCRIPTORS)
        self._give_up()

    def _become(self, uid: int) -> None:
        setgroups([])
        if self._keep_capabilities is not None:
            self._keep_capabilities()
        if _SET_ALL_IDS is not None:
            for set_ids in _SET_ALL_IDS:
                set_ids(uid, uid, uid)
        else:
            setgid(uid)
            setuid(uid)


def _resource_limits(
    limits: Limits, n_tasks_before: int | None
) -> tuple[tuple[int, tuple[int, int]], ...]:
    """Pairs for `setrlimit`, soft and hard, as far as this platform takes them."""
    # The net below the exact limit, which the server watches: it counts whole seconds by another
    # clock, which runs up to twice as fast on a virtual machine that waits for its host.
    cpu_s = 2 * int(limits.cpu_s) + 5
    wanted = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 5),
        (resource.RLIMIT_FSIZE, limits.disk_mib * _MIB, limits.disk_mib * _MIB),
        (resource.RLIMIT_NOFILE, limits.n_files, limits.n_files),
    ]
    if sys.platform == "linux":  # macOS refuses these
        wanted.append((resource.RLIMIT_STACK, _STACK_BYTES, _STACK_BYTES))
        memory = limits.memory_mib * _MIB
        if limits.data_only:
            wanted.append((resource.RLIMIT_DATA, memory, memory))
            reserved = limits.reserved_mib * _MIB
            memory = memory + reserved if reserved else memory * _RESERVED
        wanted.append((resource.RLIMIT_AS, memory, memory))
    if n_tasks_before is not None:
        n_tasks = n_tasks_before + limits.n_tasks
        wanted.append((resource.RLIMIT_NPROC, n_tasks, n_tasks))
    pairs = []
    for name, soft, hard in wanted:
        _, bound = resource.getrlimit(name)
        if bound != resource.RLIM_INFINITY:
            soft, hard = min(soft, bound), min(hard, bound)
        pairs.append((name, (soft, hard)))
    return tuple(pairs)


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
