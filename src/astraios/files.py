"""Files that are whole or not there: atomic replacement, append-only records, readers.

Everything that a run folder holds goes through here, and so does every other file that must not be
left half-written. A full disk or a refused write becomes a `StorageError` that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from pydantic import BaseModel, ValidationError

from astraios.errors import AstraiosError, DataError, MissingDataError, StorageError

R = TypeVar("R", bound=BaseModel)


def check_holds(source: str | Path, *names: str) -> None:
    """Whether the folder `source`, if it is one here, holds any of the files `names`.

    Raises:
        MissingDataError: if it holds none; names the folder just below that does.
    """
    folder = Path(source)
    if not folder.is_dir() or any((folder / name).is_file() for name in names):
        return
    below = sorted(path.parent for name in names for path in folder.glob(f"*/{name}"))
    hint = f"; did you mean {str(below[0])!r}?" if below else ""
    raise MissingDataError(f"folder {str(source)!r} holds no {' or '.join(names)}{hint}")


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write into a `StorageError` that names `path`."""
    try:
        yield
    except AstraiosError:
        raise
    except OSError as error:
        remedy = {
            errno.ENOSPC: "the disk is full; free some space and run the command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
            errno.EACCES: "no permission; choose another --out folder or change its owner",
            errno.EPERM: "no permission; choose another --out folder or change its owner",
            errno.EROFS: "the file system is read-only; choose another --out folder",
            errno.ENOTDIR: "a part of the path is no folder; choose another --out folder",
            errno.EEXIST: "a file of that name is in the way; choose another --out folder",
        }.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot write {str(path)!r}: {remedy}") from error


def make_folder(path: Path) -> Path:
    """Create `path` and its parents.

    Raises:
        StorageError: if that is not possible.
    """
    with storage(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` if the block ends without an error.

    Readers see the old content or the new, never a part.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically; see `replacing`."""
    with replacing(path) as out:
        out.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `value` (records included) as indented JSON."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@contextlib.contextmanager
def fill_folder(target: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `target` only if the block ends without an error.

    What was there before is replaced as a whole: no reader sees a part of the old or the new.
    """
    with storage(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            yield scratch
            scratch.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
                target.replace(old)
                try:
                    scratch.replace(target)
                except BaseException:
                    old.replace(target)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                scratch.replace(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def readable(path: Path) -> BinaryIO:
    """`path` open for reading in bytes; a refusal names it."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise MissingDataError(f"{str(path)!r} does not exist") from None
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def read_records(path: Path, record_type: type[R]) -> Iterator[R]:
    """Yield whole records; a torn last line, left by a kill, is not a record.

    Raises:
        DataError: on a line that is not such a record, with its number.
    """
    if not path.exists():
        return
    with readable(path) as lines:  # bytes: U+2028 inside a completion ends no line
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield record_type.model_validate_json(line)
            except ValidationError as error:
                raise DataError(
                    f"{path}:{number}: not a {record_type.__name__} record ({_first(error)}); "
                    "the file was changed by hand or written by another version; "
                    "remove the line to have it made again"
                ) from None


def read_json(path: Path, record_type: type[R]) -> R:
    """Read one record from a `.json` file."""
    try:
        with readable(path) as file:
            return record_type.model_validate_json(file.read())
    except ValidationError as error:
        raise DataError(f"{path}: not a {record_type.__name__} ({_first(error)})") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


class Writer:
    """The one process that appends to a `.jsonl` file; cuts a torn last line off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage(path):
            path.touch()
            with path.open("rb+") as old:
                _cut_torn_line(old)
            # Unbuffered: bytes kept back by a full disk would come out at `close`, out of place.
            self._out = path.open("ab", buffering=0)
            self._whole = self._out.seek(0, os.SEEK_END)

    def append(self, *records: BaseModel) -> None:
        """Write `records` and hand them to the operating system before returning.

        Raises:
            StorageError: if they cannot be written; then none of them is in the file.
        """
        rest = memoryview(b"".join(r.model_dump_json().encode() + b"\n" for r in records))
        whole = self._whole + len(rest)
        try:
            with storage(self.path):
                while rest:
                    rest = rest[self._out.write(rest) :]
        except BaseException:  # Ctrl-C too: what follows must not continue a torn line
            with contextlib.suppress(OSError):
                self._out.truncate(self._whole)
            raise
        self._whole = whole

    def close(self) -> None:
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut_torn_line(file: BinaryIO, chunk: int = 1 << 16) -> None:
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        start = max(0, at - chunk)
        file.seek(start)
        newline = file.read(at - start).rfind(b"\n")
        if newline >= 0:
            file.truncate(start + newline + 1)
            return
        at = start
    if end:
        file.truncate(0)
