"""Calls of the Linux kernel that the standard library does not offer, through `ctypes`."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

# <linux/sched.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000

# <linux/mount.h>
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

# <linux/capability.h>
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_ADMIN = 21
CAP_LAST = 63
_CAPABILITY_VERSION_3 = 0x20080522

# The same numbers on every architecture whose table begins with the generic one or with x86-64.
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)


def machine() -> str:
    """Name of the architecture, as `uname -m` spells it."""
    return os.uname().machine


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: Any, what: str) -> int:
    """Make system call `number`; integers are passed as 64 bits.

    Raises:
        OSError: with `what` in its text.
    """
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *wide), what)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags),
        options.encode() or None,
    )  # fmt: skip
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Detach what is mounted on `target`, even while it is in use."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    number = _SYS_PIVOT_ROOT[machine()]
    syscall(number, os.fsencode(new), os.fsencode(old), what="pivot_root")


def make_read_only(target: str) -> None:
    """Make the mount on `target`, and every mount below it, read-only, without set-uid files."""

    class Attributes(ctypes.Structure):  # struct mount_attr
        _fields_ = [
            ("attr_set", ctypes.c_uint64),
            ("attr_clr", ctypes.c_uint64),
            ("propagation", ctypes.c_uint64),
            ("userns_fd", ctypes.c_uint64),
        ]

    recursive, at_cwd = 0x8000, -100  # AT_RECURSIVE, AT_FDCWD
    wanted = Attributes(MS_RDONLY | MS_NOSUID)  # the attributes' first bits equal the old flags
    try:
        syscall(
            SYS_MOUNT_SETATTR, at_cwd, os.fsencode(target), recursive,
            ctypes.byref(wanted), ctypes.sizeof(wanted), what=f"mount_setattr {target}",
        )  # fmt: skip
    except OSError:
        # Before Linux 5.12. A remount must repeat the flags that the source was mounted with:
        # in a user namespace they are locked.
        kept = _locked_flags(target)
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def _locked_flags(target: str) -> int:
    seen = os.statvfs(target).f_flag
    pairs = ((2, MS_NOSUID), (4, MS_NODEV), (8, MS_NOEXEC), (1024, MS_NOATIME),
             (2048, MS_NODIRATIME), (4096, MS_RELATIME))  # fmt: skip
    return sum(flag for bit, flag in pairs if seen & bit)


def prctl(option: int, *arguments: Any, what: str = "prctl") -> int:
    """prctl(2)."""
    wide = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    wide += [ctypes.c_ulong(0)] * (4 - len(wide))
    return _check(_libc.prctl(option, *wide), what)


def prepared_prctl(option: int, value: int, structure: ctypes.Structure) -> Callable[[], None]:
    """A prctl(2) call whose arguments are converted beforehand; it keeps `structure` alive."""
    arguments = (
        ctypes.c_int(option), ctypes.c_ulong(value), ctypes.byref(structure),
        ctypes.c_ulong(0), ctypes.c_ulong(0),
    )  # fmt: skip
    call = _libc.prctl

    def go() -> None:
        _check(call(*arguments), f"prctl {option}")

    return go


def set_capabilities(kept: tuple[int, ...] = ()) -> None:
    """Give up every capability of this process except `kept` (which it must have)."""
    prepared_capabilities(kept)()


def prepared_capabilities(kept: tuple[int, ...] = ()) -> Callable[[], None]:
    """`set_capabilities` with everything converted beforehand."""
    low = sum(1 << cap for cap in kept if cap < 32)
    high = sum(1 << (cap - 32) for cap in kept if cap >= 32)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    number = ctypes.c_long(_SYS_CAPSET[machine()])
    call = _libc.syscall

    def go() -> None:
        _check(call(number, header, data), "capset")

    return go


def keep_capabilities() -> None:
    """Let the next change of ids leave the permitted capabilities as they are."""
    prctl(PR_SET_KEEPCAPS, 1)


def drop_bounding_set(kept: tuple[int, ...] = ()) -> None:
    """Take every capability but `kept` out of the set that can ever be regained."""
    for capability in range(CAP_LAST + 1):
        if capability not in kept:
            try:
                prctl(PR_CAPBSET_DROP, capability)
            except OSError:  # beyond the last one this kernel knows
                return
