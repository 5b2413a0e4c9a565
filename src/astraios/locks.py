"""One writer a folder: a lock that a process holds while it lives, and that says who holds it.

    folder/.lock         locked by the kernel (flock); holds the owner's process, host and time
    folder/.lock.beat    only where the file system has no flock: touched every few seconds

What is held. With flock the lock ends with its process, however that ends; a file that is left
behind never blocks. On NFS the server keeps the lock: a node that dies loses it when its lease ends
(NFSv4, 90 s by default) or when it is back and says so (NFSv3).

Without flock (`nolock` mounts, some object stores and FUSE file systems) the second file is made by
one process alone and holds as long as it is touched: a holder that has not done so for `STALE_S` is
taken to be dead, and at once where it was a process of this host that is not there. What is not
held there: a holder that is stopped for longer than that and then goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from astraios.errors import LockedRunError
from astraios.files import storage
from astraios.provenance import now

__all__ = ["Lock"]

BEAT_S = 10.0
STALE_S = 60.0
NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@final
class Lock:
    """The lock of `folder`, taken; `release` gives it back.

    Raises:
        LockedRunError: if another process has it; says which, where and for how long.
        StorageError: if the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._beat: _Beat | None = None
        path = folder / ".lock"
        with storage(path):
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(folder, path)
        except BaseException:
            os.close(self._handle)
            self._handle = None
            raise

    def _take(self, folder: Path, path: Path) -> None:
        assert self._handle is not None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(folder, os.pread(self._handle, 1_000, 0)) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                with storage(path):
                    raise
            self._beat = _Beat(folder)
        with storage(path):  # who it is can be read from here on every file system
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, _ourselves(), 0)

    def release(self) -> None:
        """Give the lock back; a second time is no error."""
        if self._handle is None:
            return
        # The file stays: removing it would let two later writers lock two different files.
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            # Closing is not enough where a child has it open too.
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        if self._beat is not None:
            self._beat.release()
        os.close(self._handle)
        self._handle = None


def _ourselves() -> bytes:
    told = {"process": os.getpid(), "host": platform.node(), "since": now()}
    return json.dumps(told).encode()


def _owner(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except ValueError:  # it is being written, or of an older version
        return {}
    return told if isinstance(told, dict) else {}


def _refused(folder: Path, content: bytes, more: str = "") -> LockedRunError:
    told = _owner(content)
    who = "another process"
    if "process" in told:
        who = f"process {told['process']} on {told.get('host') or 'an unnamed host'}"
        if age := _age(told.get("since")):
            who += f", which has held its lock for {age}"
    return LockedRunError(
        f"run folder {str(folder)!r} is being written by {who}{more}; "
        "wait for it, stop it, or choose another --out folder"
    )


def _age(since: Any) -> str:
    """How long ago, in two units: `3 h 12 min`."""
    try:
        began = datetime.fromisoformat(str(since))
        seconds = max(0, int((datetime.now(UTC) - began).total_seconds()))
    except (ValueError, TypeError):
        return ""
    minutes, s = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (s, "s")]
    first = next((at for at, (n, _) in enumerate(parts) if n), len(parts) - 1)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2])


# --- file systems without flock ---------------------------------------------------------------


class _Beat:
    """A file that one process made and touches while it lives."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock.beat"
        self._mark = _ourselves()
        with storage(self._path):
            while not self._make():
                self._refuse_or_remove(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True, name="lock")
        self._thread.start()

    def _make(self) -> bool:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(self._mark)
        return True

    def _refuse_or_remove(self, folder: Path) -> None:
        try:
            content, touched = self._path.read_bytes(), self._path.stat().st_mtime
        except FileNotFoundError:
            return
        silent_s = _server_time(folder) - touched
        if silent_s < STALE_S and not _is_dead(_owner(content)):
            raise _refused(
                folder, content, f" and was alive {max(0, round(silent_s))} s ago (no flock here)"
            )
        # Under another name first: of two that find it stale, one removes it.
        grave = self._path.with_name(f"{self._path.name}-{os.getpid()}")
        try:
            self._path.rename(grave)
        except FileNotFoundError:
            return
        if grave.read_bytes() != content:  # another was faster, and this is its own
            with contextlib.suppress(FileExistsError):
                os.link(grave, self._path)
        grave.unlink()

    def _touch(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._path.read_bytes() == self._mark:
                self._path.unlink()


def _server_time(folder: Path) -> float:
    """The time by the clock that stamps files, which need not be this machine's."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock.time-") as file:
        return os.fstat(file.fileno()).st_mtime


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this host that is not there."""
    process = owner.get("process")
    if owner.get("host") != platform.node() or not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
