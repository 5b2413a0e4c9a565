"""Levels `bubblewrap`, `podman` and `docker`: another tool made the namespaces and the root.

This process is process 1 of them. Under bubblewrap it has the capabilities to mount, and does what
it does at level `namespaces`. In a container it has none: it and the programs are one unprivileged
user, the work folder is the container's tmpfs, and Landlock, where the kernel has it, hides the
image's other files and `/proc`.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

from . import jail, landlock, paths, syscalls
from .native import Answer
from .processes import end_all
from .resident import Resident

_WRITABLE_SOMETIMES = ("/", "/dev", "/dev/shm", "/dev/mqueue", "/run", "/var/tmp", "/run/lock")


class ContainedError(Exception):
    """This machine's tool does not give what it should; the text says what."""


class Pipes:
    """A channel over two pipes, with the methods of a socket that are used."""

    def __init__(self, read: int, write: int) -> None:
        # Out of the way of the standard streams, which they may be.
        self._read = fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, 10)
        self._write = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, 10)

    def recv(self, n_bytes: int) -> bytes:
        """Bytes from the other side; none once it is gone."""
        return os.read(self._read, n_bytes)

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._write, view) :]

    def fileno(self) -> int:
        """The descriptor that tells when the other side is gone."""
        return self._read

    def close(self) -> None:
        """Close both directions."""
        os.close(self._read)
        os.close(self._write)


def silence() -> None:
    """Make the standard streams, which programs inherit, the null device."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if nothing > 2:
        os.close(nothing)


def check(tools: list[str]) -> None:
    """See that this is process 1, and that what commands need is there.

    Raises:
        ContainedError: if not.
    """
    if os.getpid() != 1:
        raise ContainedError("the server is not process 1: something else was started before it")
    absent = [path for path in tools if not Path(path).exists()]
    if absent:
        raise ContainedError(f"the image has no {', '.join(absent)}")


def may_mount() -> bool:
    """Whether this process can mount a work folder of its own."""
    try:
        syscalls.mount("work", jail.WORK, "tmpfs", syscalls.MS_NOSUID, "size=4k")
    except OSError:
        return False
    syscalls.unmount(jail.WORK)
    return True


def offer_packages(of_image: bool) -> None:
    """Make the named packages importable; of an image that the user chose, all it has."""
    import sysconfig

    shared = sysconfig.get_path("purelib") if of_image else jail.PACKAGES
    sys.path[:] = [*paths.library_path(), shared]
    sys.executable = ""  # nothing can be executed


def close_root(covers: list[str]) -> None:
    """Take away what was needed to start, and all privileges but those to mount and to kill.

    Args:
        covers: places of what only the start needed.
    """
    for path in covers:
        syscalls.unmount(path)
    syscalls.drop_bounding_set(jail.KEPT)
    syscalls.set_capabilities(jail.KEPT)
    _forbid_more()


def close_image(tools: list[str], of_image: bool, executable: bool) -> str:
    """Give up what a container may have left; the version of Landlock, or an empty string.

    Args:
        tools: what commands need.
        of_image: whether the image's own packages are offered.
        executable: whether files of the work folder may be executed.

    Raises:
        ContainedError: if there is no Landlock and a place beside the work folder can be written.
    """
    if os.geteuid() == 0:
        raise ContainedError("the server is root and may not mount; it should be neither")
    syscalls.set_capabilities(())
    _forbid_more()
    readable = [*paths.library_folders(), *tools]
    readable += [jail.PACKAGES] if Path(jail.PACKAGES).is_dir() else []
    hidden = [] if of_image else paths.hidden_folders()
    try:
        version = landlock.restrict(readable, hidden, list(paths.DEVICES), jail.WORK, executable)
    except OSError:
        open_places = [path for path in _WRITABLE_SOMETIMES if os.access(path, os.W_OK)]
        if open_places:
            text = f"programs could write to {', '.join(open_places)}"
            raise ContainedError(text) from None
        return ""
    return str(version)


def _forbid_more() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


class BriefCompiler:
    """A resident compiler that stays for one program only.

    Where compiler and programs are one user in one process namespace, a program could reach it.
    """

    pid = None
    """There is none to spare when a program is over."""

    def __init__(self, start: Callable[[], Resident]) -> None:
        self._start = start

    def make(self, source: bytes, folder: Path) -> Answer | None:
        """As `Resident.make`."""
        compiler = self._start()
        try:
            return compiler.make(source, folder)
        finally:
            end_all(alone=True)
            compiler.close()
