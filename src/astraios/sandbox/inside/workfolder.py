"""The one folder a program may write to, made empty again after each program."""

# Folders are held by descriptors here, which pathlib does not know.
# ruff: noqa: PTH101, PTH116, PTH208
from __future__ import annotations

import contextlib
import os
import stat
from itertools import count
from os import chmod, rename, rmdir, unlink
from pathlib import Path

WORK, PACKAGES = "work", "packages"
"""Inside a server's folder, at the levels without a root of their own."""

_MIB = 1 << 20


class MemoryFolder:
    """A tmpfs of limited size. Whatever a program leaves goes away by mounting a new one."""

    def __init__(self, path: str, *, executable: bool = False) -> None:
        from . import syscalls

        self.path = path
        self._executable = executable
        self._syscalls = syscalls
        self._mib = 0
        self._pristine: tuple[int, ...] = ()

    def prepare(self, disk_mib: int) -> None:
        """Make it empty, with room for `disk_mib`; cheap if nothing was touched."""
        if disk_mib != self._mib or self._look() != self._pristine:
            self._mount(disk_mib)

    def used_mib(self) -> float:
        """Zero: the file system holds the limit by itself."""
        return 0.0

    def _mount(self, disk_mib: int) -> None:
        syscalls = self._syscalls
        if self._mib:
            syscalls.unmount(self.path)
        n_inodes = 1024 + 16 * disk_mib
        # Without the sticky bit a build may remove its source, which another id has written.
        mode = "777" if self._executable else "1777"
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        flags |= 0 if self._executable else syscalls.MS_NOEXEC
        syscalls.mount(
            "work", self.path, "tmpfs", flags,
            f"size={max(disk_mib, 1)}m,nr_inodes={n_inodes},mode={mode}",
        )  # fmt: skip
        self._mib, self._pristine = disk_mib, self._look()

    def _look(self) -> tuple[int, ...]:
        # The change time cannot be set by a program, so nobody leaves a mark for a later one.
        seen = os.stat(self.path)
        return seen.st_mode, seen.st_size, seen.st_nlink, seen.st_mtime_ns, seen.st_ctime_ns


class PlainFolder:
    """A folder on a real disk, owned by the programs' user. Its size is watched, not enforced."""

    def __init__(self, path: str, uid: int | None) -> None:
        self.path = path
        if uid is not None:
            os.chown(path, uid, uid)
        _open_up(path)

    def prepare(self, disk_mib: int) -> None:
        """Make it empty."""
        empty(self.path)

    def used_mib(self) -> float:
        """Disk space that files below it take up, as far as they can be seen."""
        n_bytes, folders = 0, [self.path]
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:  # unreadable, or gone
                continue
            for entry in entries:
                try:
                    n_bytes += 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                except OSError:
                    continue
        return n_bytes / _MIB


def contents(path: str) -> list[tuple[str, bytes]]:
    """Name and content of every file that a build has left below `path`."""
    top = Path(path)
    files = (one for one in top.rglob("*") if one.is_file() and not one.is_symlink())
    return [(str(file.relative_to(top)), file.read_bytes()) for file in files]


def put(path: str, files: list[tuple[str, bytes]]) -> None:
    """Write `files` below `path`, an empty folder, for the programs' user to read and execute."""
    for name, content in files:
        file = Path(path, name)
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755)


def empty(path: str) -> None:
    """Remove everything in folder `path`, whatever its modes, names or depth.

    Folders are moved to the top before they are entered: neither a path nor the stack grows with
    the depth of the tree.
    """
    fresh = (f".astraios-{n}" for n in count())
    _open_up(path)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while names := os.listdir(top):
            for name in names:
                _remove(name, top, top, fresh)
    finally:
        os.close(top)


def _open_up(path: str) -> None:
    """Make a folder of ours one to list and write in; a container's tmpfs is root's, and open."""
    with contextlib.suppress(PermissionError):
        chmod(path, 0o700)


def _remove(name: str, parent: int, top: int, fresh: object) -> None:
    seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(seen.st_mode):
        unlink(name, dir_fd=parent)
        return
    chmod(name, 0o700, dir_fd=parent)
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for inner in os.listdir(here):
            kind = os.stat(inner, dir_fd=here, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                # a folder must be writable to be moved: its `..` changes
                chmod(inner, 0o700, dir_fd=here)
                rename(inner, next(fresh), src_dir_fd=here, dst_dir_fd=top)  # type: ignore[call-overload]
            else:
                unlink(inner, dir_fd=here)
    finally:
        os.close(here)
    rmdir(name, dir_fd=parent)
