"""Jobs that failed, kept in the study's folder, so that every machine that sees it can tell.

    <root>/failures.jsonl   a line a failure, appended by the launcher or the tasks of a cluster

A line holds until its job is done. Lines are written one at a time under a lock; where the file
system has none and two lines were torn into each other, neither counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from astraios.errors import StorageError
from astraios.files import Writer, make_folder, readable, storage, write_bytes
from astraios.provenance import now
from astraios.records import JobFailure
from astraios.runs import is_done

__all__ = ["FAILURES", "forget", "keep", "note", "read"]

log = logging.getLogger(__name__)

FAILURES = "failures.jsonl"


def note(root: Path, job: str, message: str) -> None:
    """Append that `job` failed.

    Raises:
        StorageError: if it cannot be written.
    """
    make_folder(root)
    failure = JobFailure(job=job, message=_anywhere(message, root), when=now())
    with _alone(root), Writer(root / FAILURES) as writer:
        writer.append(failure)


def keep(root: Path, job: str, message: str) -> None:
    """`note`, but a full disk is only warned of: it must not end the jobs that still run."""
    try:
        note(root, job, message)
    except StorageError as error:
        log.warning("the failure of %s was not written down: %s", job, error)


def read(root: Path) -> Mapping[str, JobFailure]:
    """Job -> its last failure, of jobs that have not been done since."""
    found: dict[str, JobFailure] = {}
    path = root / FAILURES
    if path.exists():
        with readable(path) as lines:
            for line in lines:
                with contextlib.suppress(ValidationError):
                    failure = JobFailure.model_validate_json(line)
                    found[failure.job] = failure
    return {name: failure for name, failure in found.items() if not is_done(root / name)}


def forget(root: Path) -> None:
    """Drop the lines of jobs that are done; without any left, the file goes.

    Raises:
        StorageError: if it cannot be written.
    """
    path = root / FAILURES
    if not path.exists():
        return
    with _alone(root):
        left = read(root)
        with storage(path):
            if left:
                lines = (failure.model_dump_json().encode() + b"\n" for failure in left.values())
                write_bytes(path, b"".join(lines))
            else:
                path.unlink(missing_ok=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    lock = root / ".failures.lock"
    with storage(lock):
        file = lock.open("a")
    with file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _anywhere(message: str, root: Path) -> str:
    """`message` without what names this machine: folders become relative, the host is left out."""
    for folder, short in ((root.resolve(), "."), (Path.home(), "~")):
        if len(folder.parts) > 1:
            message = message.replace(str(folder), short)
    host = platform.node()
    if host:
        message = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "this machine", message)
    return message.strip()
