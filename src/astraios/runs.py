"""Run folders: open, append, resume, seal, read. The only code that touches run files.

    folder/
      manifest.json      what made it; `status: done`, written last, seals the run
      <name>.jsonl       append-only records, one JSON object a line
      <name>.json        small results, replaced atomically
      .lock              held by the process that writes

A kill at any moment leaves whole records and at most one torn last line, which the next writer
cuts off. Readers take sealed runs only, unless asked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from pydantic import BaseModel, ValidationError

from astraios import __version__
from astraios.config import fingerprint, identity, tool_environment
from astraios.errors import (
    AstraiosError,
    DataError,
    ForeignRunError,
    LockedRunError,
    MissingDataError,
    RunError,
    StorageError,
    UnfinishedRunError,
)
from astraios.records import Code, Manifest, RunKind

FORMAT = 1
MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "accelerate", "numpy")

R = TypeVar("R", bound=BaseModel)


# --- files ------------------------------------------------------------------------------------


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


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically: readers see the old content or the new, never a part."""
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


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


def _readable(path: Path) -> BinaryIO:
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
    with _readable(path) as lines:  # bytes: U+2028 inside a completion ends no line
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
        with _readable(path) as file:
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


# --- what made a run --------------------------------------------------------------------------


@cache
def code() -> Code:
    """Version of the package and, in a checkout, the commit and whether it was changed."""
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                env=tool_environment(("PATH",)),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", "runs.py")
    if tracked is None:
        return Code(version=__version__)
    changed = git("status", "--porcelain", "--", ".")
    return Code(version=__version__, commit=git("rev-parse", "HEAD"), dirty=bool(changed))


@cache
def packages() -> Mapping[str, str]:
    """Versions of the packages that can move a number; nothing is imported."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- run folders ------------------------------------------------------------------------------


class Run:
    """A run folder that this process writes, or reads once it is sealed."""

    def __init__(self, folder: Path, manifest: Manifest, lock: int | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lock = lock
        self._writers: dict[str, Writer] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        kind: RunKind,
        config: BaseModel,
        run_id: str | None = None,
        inputs: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Create `folder`, or take up the run that is in it.

        Args:
            folder: where the run lives; made if it is not there.
            kind: what the run produces.
            config: its config; the fingerprint decides whether an existing run is this one.
            run_id: name of the run in other manifests; the folder's name by default.
            inputs: name -> run id or data hash of what the run reads.
            environment: facts about the machine beside the package versions.

        Raises:
            ForeignRunError: if the folder holds another run, or files that are no run.
            LockedRunError: if another process writes to it.
            StorageError: if it cannot be written.
        """
        make_folder(folder)
        _refuse_strangers(folder)  # before the lock file is put beside them
        lock = _take_lock(folder)
        try:
            manifest = cls._begin(folder, kind, config, run_id, inputs or {}, environment or {})
        except BaseException:
            _release_lock(lock)
            raise
        return cls(folder, manifest, lock)

    @staticmethod
    def _begin(
        folder: Path,
        kind: RunKind,
        config: BaseModel,
        run_id: str | None,
        inputs: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> Manifest:
        path = folder / MANIFEST
        if path.exists():
            old = read_manifest(folder)
            if old.kind != kind or old.fingerprint != fingerprint(config):
                raise ForeignRunError(_difference(folder, old, kind, config))
            if dict(old.inputs) != dict(inputs):
                changed = sorted(
                    k for k in {*old.inputs, *inputs} if old.inputs.get(k) != inputs.get(k)
                )
                raise ForeignRunError(
                    f"run folder {str(folder)!r} was made from other inputs "
                    f"({', '.join(changed)}); choose another folder or remove this one"
                )
            return old
        manifest = Manifest(
            run_id=run_id or folder.resolve().name,
            kind=kind,
            fingerprint=fingerprint(config),
            config=config.model_dump(mode="json"),
            inputs=dict(inputs),
            code=code(),
            environment={**packages(), **environment},
            started=now(),
        )
        write_json(path, manifest)
        return manifest

    @property
    def done(self) -> bool:
        """Whether the run is sealed."""
        return self.manifest.status == "done"

    def append(self, name: str, *records: BaseModel) -> None:
        """Append `records` to `<name>.jsonl`."""
        self._must_write()
        if name not in self._writers:
            self._writers[name] = Writer(self.folder / f"{name}.jsonl")
        self._writers[name].append(*records)

    def read(self, name: str, record_type: type[R]) -> Iterator[R]:
        """Whole records of `<name>.jsonl` and of its parts `<name>-<worker>.jsonl`."""
        yield from read_records(self.folder / f"{name}.jsonl", record_type)
        for part in sorted(self.folder.glob(f"{name}-*.jsonl")):
            yield from read_records(part, record_type)

    def keys(self, name: str, record_type: type[R], key: Callable[[R], Any]) -> set[Any]:
        """Keys of the records that are there already: what a resumed run may skip."""
        return {key(record) for record in self.read(name, record_type)}

    def rewrite(self, name: str, records: Iterable[BaseModel]) -> None:
        """Replace `<name>.jsonl` atomically, to drop what a resumed run will write again."""
        self._must_write()
        if name in self._writers:
            self._writers.pop(name).close()
        lines = b"".join(record.model_dump_json().encode() + b"\n" for record in records)
        write_bytes(self.folder / f"{name}.jsonl", lines)

    def write_json(self, name: str, value: Any) -> None:
        """Replace `<name>.json` atomically."""
        self._must_write()
        write_json(self.folder / f"{name}.json", value)

    def seal(
        self,
        counts: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Mark the run as done; the last thing that is written."""
        self._must_write()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self.manifest = self.manifest.model_copy(
            update={
                "status": "done",
                "finished": now(),
                "counts": dict(counts or {}),
                "environment": {**self.manifest.environment, **(environment or {})},
            }
        )
        write_json(self.folder / MANIFEST, self.manifest)

    def close(self) -> None:
        """Close files and give the lock back; the run stays resumable."""
        try:
            for writer in self._writers.values():
                writer.close()
        finally:
            self._writers.clear()
            if self._lock is not None:
                _release_lock(self._lock)
                self._lock = None

    def _must_write(self) -> None:
        if self._lock is None:
            raise RunError(f"run folder {str(self.folder)!r} was opened for reading")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`.

    Raises:
        MissingDataError: if there is none.
        DataError: if it is not a manifest, or one of a newer version.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise MissingDataError(
            f"{str(folder)!r} is not a run folder: it has no {MANIFEST}; "
            "give the folder of one run, or the study's folder to `astraios report`"
        )
    try:
        with _readable(path) as file:
            raw = json.loads(file.read())
    except ValueError:
        raise DataError(f"{path}: not JSON; restore it or remove the folder") from None
    if isinstance(raw, dict) and isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        wrote = raw.get("code")
        writer = wrote.get("version", "?") if isinstance(wrote, dict) else "?"
        raise DataError(
            f"{path}: run format {raw['format']} is newer than this version reads ({FORMAT}); "
            f"it was written by astraios {writer}: upgrade"
        )
    return read_json(path, Manifest)


def read_run(folder: Path, *, unfinished: bool = False) -> Run:
    """Open a run for reading.

    Raises:
        UnfinishedRunError: if it is not sealed and `unfinished` is False.
    """
    manifest = read_manifest(folder)
    if manifest.status != "done" and not unfinished:
        raise UnfinishedRunError(
            f"run {str(folder)!r} is not finished (status: {manifest.status}); "
            "run the command that made it again to complete it"
        )
    return Run(folder, manifest)


def is_done(folder: Path, config: BaseModel | None = None) -> bool:
    """Whether `folder` holds a sealed run (of `config`, if given)."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder)
    same = config is None or manifest.fingerprint == fingerprint(config)
    return manifest.status == "done" and same


def find_runs(root: Path, *, unfinished: bool = False) -> list[Run]:
    """All runs in `root` and below, in path order; sealed ones only unless asked."""
    if not root.is_dir():
        raise MissingDataError(f"{str(root)!r} is not a folder")
    found = []
    for path in sorted(root.rglob(MANIFEST)):
        if any(part.startswith(".") for part in path.relative_to(root).parts[:-1]):
            continue
        run = read_run(path.parent, unfinished=True)
        if run.done or unfinished:
            found.append(run)
    return found


def _refuse_strangers(folder: Path) -> None:
    with storage(folder):
        present = sorted(path.name for path in folder.iterdir())
    strangers = [name for name in present if not name.startswith(".")]
    if strangers and MANIFEST not in strangers:
        raise ForeignRunError(
            f"{str(folder)!r} is not a run folder but holds {strangers[0]!r}; "
            "choose an empty or new folder"
        )


def _difference(folder: Path, old: Manifest, kind: RunKind, config: BaseModel) -> str:
    if old.kind != kind:
        what = f"it is a {old.kind} run, not a {kind} run"
    else:
        before, after = dict(_leaves(old.config)), dict(_leaves(identity(config)))
        changed = [
            f"{key}: {before.get(key)!r} -> {after[key]!r}"
            for key in sorted(after)
            if before.get(key) != after[key]
        ]
        what = "it was made with another config (" + "; ".join(changed[:5] or ["fields"]) + ")"
    return (
        f"run folder {str(folder)!r} holds another run: {what}; "
        "choose another folder, or remove this one to start afresh"
    )


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    else:
        yield at, value


# --- locks ------------------------------------------------------------------------------------


def _take_lock(folder: Path) -> int:
    path = folder / ".lock"
    with storage(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 200).decode("utf-8", "replace").strip() or "another process"
        os.close(handle)
        raise LockedRunError(
            f"run folder {str(folder)!r} is being written by {owner}; "
            "wait for it, stop it, or choose another --out folder"
        ) from None
    except OSError:  # a file system without locks: one writer is then the user's care
        return handle
    with storage(path):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} since {now()}".encode(), 0)
    return handle


def _release_lock(handle: int) -> None:
    # The file stays: removing it would let two later writers lock two different files.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough where a child has it open too
    os.close(handle)
