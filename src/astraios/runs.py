"""Run folders: open, append, resume, seal, read. The only code that touches run files.

    folder/
      manifest.json      what made it; `status: done`, written last, seals the run
      <name>.jsonl       append-only records, one JSON object a line
      <name>.json        small results, replaced atomically
      .lock              held by the process that writes (`locks.py`)

A kill at any moment leaves whole records and at most one torn last line, which the next writer
cuts off. Readers take sealed runs only, unless asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from astraios.config import differing, fingerprint
from astraios.errors import (
    DataError,
    ForeignRunError,
    MissingDataError,
    RunError,
    UnfinishedRunError,
)
from astraios.files import (
    Writer,
    make_folder,
    read_json,
    read_records,
    readable,
    storage,
    write_bytes,
    write_json,
)
from astraios.locks import Lock
from astraios.provenance import code, now, packages
from astraios.records import Manifest, RunKind

FORMAT = 1
MANIFEST = "manifest.json"
N_LISTED = 12
"""Fields of another config that an error names, the first of the config; others are counted."""

R = TypeVar("R", bound=BaseModel)


class Run:
    """A run folder that this process writes, or reads once it is sealed."""

    def __init__(self, folder: Path, manifest: Manifest, lock: Lock | None = None) -> None:
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
            LockedRunError: if another process writes to it; see `locks`.
            StorageError: if it cannot be written.
        """
        make_folder(folder)
        _refuse_strangers(folder)  # before the lock file is put beside them
        lock = Lock(folder)
        try:
            manifest = cls._begin(folder, kind, config, run_id, inputs or {}, environment or {})
        except BaseException:
            lock.release()
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

    def reopen(self) -> None:
        """Take the seal off a run of which a part is to be made again, such as its faults.

        The manifest is replaced before anything else is written, so a kill afterwards leaves an
        unfinished run; until `seal`, readers are refused.
        """
        self._must_write()
        self.manifest = self.manifest.model_copy(
            update={"status": "running", "finished": None, "counts": {}}
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
                self._lock.release()
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
        with readable(path) as file:
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
        fields = [f"{name}: {a!r} -> {b!r}" for name, a, b in differing(old.config, config)]
        if len(fields) > N_LISTED:
            fields[N_LISTED:] = [f"and {len(fields) - N_LISTED} more fields"]
        what = f"it was made with another config ({'; '.join(fields) or 'fields'})"
    return (
        f"run folder {str(folder)!r} holds another run: {what}; "
        "choose another folder, or remove this one to start afresh"
    )
