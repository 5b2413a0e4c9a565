"""One writer a folder: a lock that a process holds while it lives, and that says who holds it.

    folder/.lock         locked by the kernel (flock); holds the owner's process, host and time
    folder/.lock.beat-7  only where the file system has no flock: the seventh holder's, touched
                         every few seconds

What is held. With flock the lock ends with its process, however that ends; a file that is left
behind never blocks. On NFS the server keeps the lock: a node that dies loses it when its lease ends
(NFSv4, 90 s by default) or when it is back and says so (NFSv3).

Without flock (`nolock` mounts, some object stores and FUSE file systems) holders are numbered: the
next one makes the file with the next number, which one process alone can, and only when the holder
before it has given it back, has not touched its file for `STALE_S`, or was a process of this host
that is not there. A number is used once: no file makes room for another of its name, so there is no
moment at which two can pass. What is not held there: a holder that is stopped for
longer than `STALE_S` and then goes on.
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
KEPT = 4  # files of holders before the present one
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
    """The file of one holder, which makes it and touches it while it lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage(folder / ".lock.beat"):
            while not self._take():
                pass
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True, name="lock")
        self._thread.start()

    def _take(self) -> bool:
        """Follow the last holder if it is gone; false if another came in between."""
        last = max(self._holders(), default=0)
        if last:
            try:
                self._refuse_if_alive(self._file(last))
            except FileNotFoundError:  # its follower has cleared it away
                return False
        number, self._path = last + 1, self._file(last + 1)
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(_ourselves())
        # Between the look and the making this number may have come and gone: a higher one shows it.
        # The last few stay for that: who lists the folder while holders change sees one of them.
        there = self._holders()
        passed = max(there) > number
        for old in [number] if passed else [n for n in there if n <= number - KEPT]:
            self._file(old).unlink(missing_ok=True)
        return not passed

    def _holders(self) -> set[int]:
        found = (path.name.rpartition("-")[2] for path in self._folder.glob(".lock.beat-*"))
        return {int(number) for number in found if number.isdecimal()}

    def _file(self, number: int) -> Path:
        return self._folder / f".lock.beat-{number}"

    def _refuse_if_alive(self, path: Path) -> None:
        content, touched = path.read_bytes(), path.stat().st_mtime
        silent_s = _server_time(self._folder) - touched
        if silent_s < STALE_S and not _is_dead(_owner(content)):
            raise _refused(
                self._folder,
                content,
                f" and was alive {max(0, round(silent_s))} s ago (no flock here)",
            )

    def _touch(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Leave the file as one that nobody has touched for long: its number is used up."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            os.utime(self._path, (0, 0))


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
