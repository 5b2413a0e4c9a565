"""Tokenized documents on disk, while it is not yet known which row they go into.

Memory holds two numbers a document; ids, mask and names are appended to plain files and mapped.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from astraios.data.tokens import Counts, Documents, Ids, Mask
from astraios.files import storage

FOLDER = ".spool"


class Spool:
    """Documents are appended, then read in any order; gone when its block ends."""

    def __init__(self, parent: Path) -> None:
        self._folder = parent / FOLDER
        self._lengths: list[Counts] = []
        self._name_lengths: list[Counts] = []
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with storage(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)  # of a packing that was killed
            self._folder.mkdir()
            for name in ("ids", "in_loss", "names"):
                self._files[name] = (self._folder / name).open("wb", buffering=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def append(self, documents: Documents) -> None:
        """Put `documents` behind the others.

        Raises:
            StorageError: if they cannot be written.
        """
        names = [name.encode() for name in documents.names]
        self._write("ids", documents.ids.data.cast("B"))
        self._write("in_loss", documents.in_loss.data.cast("B"))
        self._write("names", memoryview(b"".join(names)))
        self._lengths.append(documents.lengths)
        self._name_lengths.append(np.fromiter(map(len, names), np.int64, len(names)))

    def _write(self, name: str, rest: memoryview) -> None:
        with storage(self._folder / name):
            while rest:
                rest = rest[self._files[name].write(rest) :]

    def read(self) -> SpooledDocuments:
        """All that was appended, at least one document."""
        return SpooledDocuments(
            self._map("ids", np.int32),
            self._map("in_loss", np.bool_),
            self._map("names", np.uint8),
            np.concatenate(self._lengths),
            np.concatenate(self._name_lengths),
        )

    def _map(self, name: str, kind: Any) -> NDArray[Any]:
        path = self._folder / name
        with storage(path):
            if not path.stat().st_size:  # which cannot be mapped
                return np.zeros(0, kind)
            return np.memmap(path, kind, mode="r")


class SpooledDocuments:
    """Documents to be read by number."""

    def __init__(
        self,
        ids: Ids,
        in_loss: Mask,
        names: NDArray[np.uint8],
        lengths: Counts,
        name_lengths: Counts,
    ) -> None:
        self.lengths = lengths
        self._ids, self._in_loss, self._names = ids, in_loss, names
        self._ends, self._name_ends = np.cumsum(lengths), np.cumsum(name_lengths)
        self._starts, self._name_starts = self._ends - lengths, self._name_ends - name_lengths

    def take(self, numbers: Counts) -> tuple[Ids, Mask, Counts, Sequence[str]]:
        """The documents of these numbers, joined: ids, mask, lengths and names."""
        places = [
            slice(begin, end)
            for begin, end in zip(
                self._starts[numbers].tolist(), self._ends[numbers].tolist(), strict=True
            )
        ]
        names = [
            self._names[begin:end].tobytes().decode()
            for begin, end in zip(
                self._name_starts[numbers].tolist(), self._name_ends[numbers].tolist(), strict=True
            )
        ]
        return (
            np.concatenate([self._ids[place] for place in places]),
            np.concatenate([self._in_loss[place] for place in places]),
            self.lengths[numbers],
            names,
        )
