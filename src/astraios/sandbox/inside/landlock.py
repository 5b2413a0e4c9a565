"""Level `landlock`: which files this process and its children may touch, from the inside.

Landlock is a promise a process makes for itself: it needs no privilege and no namespace. Held:
files may be read below the given folders only and written in the work folder only; no TCP port
may be bound or reached (ABI 4); no abstract socket and no process outside may be reached or
signalled (ABI 6).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from . import syscalls

_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1

# Access rights by the ABI that brought them; <linux/landlock.h>.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# Of a work folder: files, folders and links; no device, socket or FIFO nodes.
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
_NET_TCP = 0b11
_SCOPED = 0b11  # abstract sockets, signals


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi() -> int:
    """Version of Landlock in this kernel.

    Raises:
        OSError: if it has none, or it is switched off.
    """
    return syscalls.syscall(
        syscalls.SYS_LANDLOCK_CREATE_RULESET, None, 0, _VERSION, what="landlock"
    )


def restrict(
    readable: list[str],
    hidden: list[str],
    files: list[str],
    writable: str,
    executable: bool = False,
) -> int:
    """Restrict this process and all its children for good; needs no_new_privs.

    Args:
        readable: folders whose files may be read and mapped.
        hidden: folders below them whose files may not. (Their names can be listed: a rule holds for
            everything below, and the import system has to list the folders above.)
        files: single files (devices) that may be read and written.
        writable: the work folder.
        executable: whether files in it may be executed.

    Returns:
        The version of Landlock.

    Raises:
        OSError: if the kernel refuses.
    """
    version = abi()
    handled = _ALL_ABI_1
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _IOCTL_DEV if version >= 5 else 0
    wanted = _Ruleset(handled, _NET_TCP if version >= 4 else 0, _SCOPED if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = syscalls.syscall(
        syscalls.SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(wanted), size, 0, what="landlock"
    )
    try:
        nodes = _MAKE_CHAR | _MAKE_SOCK | _MAKE_FIFO | _MAKE_BLOCK
        for folder in readable:
            _allow_around(ruleset, Path(folder), hidden)
        for file in files:
            _allow(ruleset, file, _READ_FILE | _WRITE_FILE)
        _allow(ruleset, writable, handled & ~nodes & ~(0 if executable else _EXECUTE))
        syscalls.syscall(syscalls.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, what="landlock")
    finally:
        os.close(ruleset)
    return version


def _allow_around(ruleset: int, path: Path, hidden: list[str]) -> None:
    """Reading below `path`, except below `hidden` folders."""
    below = [one for one in hidden if one.startswith(f"{path}/")]
    if not below:
        _allow(ruleset, str(path), _READ if path.is_dir() else _EXECUTE | _READ_FILE)
        return
    _allow(ruleset, str(path), _READ_DIR)
    for entry in path.iterdir():
        if str(entry) not in below and entry.exists():
            _allow_around(ruleset, entry, below)


def _allow(ruleset: int, path: str, access: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(access, handle)
        syscalls.syscall(
            syscalls.SYS_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0,
            what=f"landlock {path}",
        )  # fmt: skip
    finally:
        os.close(handle)
