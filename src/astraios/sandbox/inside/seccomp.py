"""The system calls a program may make: a list of what is allowed, the rest fails.

Held: no new process (but in a build), no exec (of Python programs), no signal to another process,
no socket but a pair, no namespace, mount, privilege, debugger, kernel key, System V or POSIX
message object, no raised limit, for commands no shared memory without a file (the limit that their
runtimes can live with does not count it).
A refused call answers EPERM (ENOSYS where the C library then tries an older call), so a program
sees an exception and goes on.

The filter is classic BPF over `struct seccomp_data`: number at 0, architecture at 4, the low and
high half of argument i at 16 + 8 i and 20 + 8 i.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator

from . import calls, syscalls

# Answered with ENOSYS: the C library falls back to a call that can be checked, or does without.
_UNKNOWN = ("clone3", "openat2", "memfd_create", "io_uring_setup")

# Allowed with some arguments only.
_CHECKED = ("ioctl", "prctl", "kill", "tgkill", "tkill", "clone", "prlimit64")

# What commands need beyond what Python programs do; `_TO_BEGIN` is enough for one that is alone.
_TO_BEGIN = ("execve", "arch_prctl")
_OF_COMMANDS = (*_TO_BEGIN, "fork", "vfork", "setpgid")

PROGRAM, RUN, BUILD = KINDS = ("program", "run", "build")
"""Of filters: a program inside this interpreter; a command that starts no other; one that may."""

# name of the machine -> its AUDIT_ARCH number and its table
_MACHINES = {"x86_64": (0xC000003E, calls.X86_64), "aarch64": (0xC00000B7, calls.AARCH64)}

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_NO_SUCH_CALL = 0x00050000 | errno.ENOSYS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_AND = 0x54
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED (or MAP_SHARED_VALIDATE) | MAP_ANONYMOUS
_PR_SET_NAME, _PR_GET_NAME = 15, 16
# What `isatty`, descriptor flags and byte counts ask: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO,
# FIONCLEX, FIOCLEX. No device beyond null, zero and urandom can be opened anyway.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""
_ALLOWED: Instruction = (_RETURN, 0, 0, _ALLOW)
_MISSED: Instruction = (_JUMP, 0, 0, 0)
"""A jump past the search; the distance is put in when all of it is there."""


def available() -> str:
    """An empty string, or why this machine has no filter."""
    if syscalls.machine() not in _MACHINES:
        return f"no table of system calls for {syscalls.machine()}"
    return ""


class _FilterProgram(ctypes.Structure):  # struct sock_fprog
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class Filter:
    """A filter that is ready but for the number of the process it is installed in.

    Everything is laid out beforehand: what a new process touches it has to copy first.
    """

    def __init__(self, kind: str) -> None:
        """
        Args:
            kind: one of `KINDS`.
        """
        instructions = list(_instructions(_PID_MARK, kind))
        code = b"".join(struct.pack("HBBI", *one) for one in instructions)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._pids = [
            ctypes.c_uint32.from_buffer(self._code, 8 * n + 4)
            for n, one in enumerate(instructions)
            if one[3] == _PID_MARK
        ]
        self._program = _FilterProgram(len(instructions), ctypes.addressof(self._code))
        self._install = syscalls.prepared_prctl(
            syscalls.PR_SET_SECCOMP, syscalls.SECCOMP_MODE_FILTER, self._program
        )

    def install(self, pid: int) -> None:
        """Restrict this process, `pid`, for good. Needs no_new_privs or CAP_SYS_ADMIN.

        Raises:
            OSError: if the kernel has no seccomp filters.
        """
        for place in self._pids:
            place.value = pid
        self._install()


_PID_MARK = 0x70697069  # no process number reaches it; replaced in `install`


def _instructions(own_pid: int, kind: str) -> Iterator[Instruction]:
    architecture, table = _MACHINES[syscalls.machine()]
    yield (_LOAD, 0, 0, 4)
    yield (_EQUAL, 1, 0, architecture)
    yield (_RETURN, 0, 0, _KILL)
    yield (_LOAD, 0, 0, 0)
    if syscalls.machine() == "x86_64":  # the x32 table would offer every call a second time
        yield (_AT_LEAST, 0, 1, _X32_BIT)
        yield (_RETURN, 0, 0, _KILL)
    extra = {PROGRAM: (), RUN: _TO_BEGIN, BUILD: _OF_COMMANDS}[kind]
    apart = [*_CHECKED, *_UNKNOWN, *(name for name in _OF_COMMANDS if name not in extra)]
    if kind == RUN:
        apart.append("mmap")
    allowed = sorted(number for name, number in table.items() if name not in apart)
    yield from _among(list(_ranges(allowed)))
    for name in _UNKNOWN:
        yield (_EQUAL, 0, 1, table[name])
        yield (_RETURN, 0, 0, _NO_SUCH_CALL)
    yield from _one_of(table["ioctl"], 1, _IOCTLS)
    yield from _one_of(table["prctl"], 0, (_PR_SET_NAME, _PR_GET_NAME))
    yield from _one_of(table["kill"], 0, (own_pid,))
    yield from _one_of(table["tgkill"], 0, (own_pid,))
    yield from _one_of(table["tkill"], 0, (own_pid,))
    if kind == BUILD:  # clone: anything but new namespaces
        yield (_EQUAL, 0, 4, table["clone"])
        yield (_LOAD, 0, 0, 16)
        yield (_ANY_BIT, 1, 0, _CLONE_NAMESPACES)
        yield (_RETURN, 0, 0, _ALLOW)
        yield (_RETURN, 0, 0, _REFUSE)
    else:  # clone: threads only
        yield (_EQUAL, 0, 4, table["clone"])
        yield (_LOAD, 0, 0, 16)
        yield (_ANY_BIT, 0, 1, _CLONE_THREAD)
        yield (_RETURN, 0, 0, _ALLOW)
        yield (_RETURN, 0, 0, _REFUSE)
    if kind == RUN:
        yield (_EQUAL, 0, 5, table["mmap"])
        yield (_LOAD, 0, 0, 40)
        yield (_AND, 0, 0, _SHARED_ANONYMOUS)
        yield (_EQUAL, 0, 1, _SHARED_ANONYMOUS)
        yield (_RETURN, 0, 0, _REFUSE)
        yield (_RETURN, 0, 0, _ALLOW)
    # prlimit64: read one's own limits (process 0, no new limit).
    yield (_EQUAL, 0, 8, table["prlimit64"])
    yield (_LOAD, 0, 0, 16)
    yield (_EQUAL, 0, 5, 0)
    yield (_LOAD, 0, 0, 32)
    yield (_EQUAL, 0, 3, 0)
    yield (_LOAD, 0, 0, 36)
    yield (_EQUAL, 0, 1, 0)
    yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _REFUSE)
    yield (_RETURN, 0, 0, _REFUSE)


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def _among(ranges: list[tuple[int, int]]) -> list[Instruction]:
    """Allow a call whose number lies in one of `ranges`, else go on behind these instructions.

    A tree of comparisons: when a filter is installed the kernel tries every number there is, so a
    list that is gone through one by one costs each process a third of a millisecond.
    """
    tree = _search(ranges)
    n_after = [len(tree) - place - 1 for place in range(len(tree))]
    return [
        (_JUMP, 0, 0, n_after[place]) if one == _MISSED else one for place, one in enumerate(tree)
    ]


def _search(ranges: list[tuple[int, int]]) -> list[Instruction]:
    if len(ranges) == 1:
        ((first, last),) = ranges
        return [(_AT_LEAST, 0, 2, first), (_AT_LEAST, 1, 0, last + 1), _ALLOWED, _MISSED]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    return [(_AT_LEAST, 0, 1, ranges[middle][0]), (_JUMP, 0, 0, len(low)), *low, *high]


def _one_of(number: int, argument: int, values: tuple[int, ...]) -> Iterator[Instruction]:
    """Allow call `number` where the low half of `argument` is one of `values`, else refuse."""
    yield (_EQUAL, 0, 2 + 2 * len(values), number)
    yield (_LOAD, 0, 0, 16 + 8 * argument)
    for value in values:
        yield (_EQUAL, 0, 1, value)
        yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _REFUSE)
