"""Rows on disk, memory-mapped: opened at once, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from astraios.data import Row
from astraios.data._report import PackReport, Shard
from astraios.data._shards import FORMAT, KEY
from astraios.data.packing import isolated_row, open_row
from astraios.data.tokens import Ids, Mask
from astraios.errors import DataError, MissingDataError
from astraios.files import read_json
from astraios.records import RunKind
from astraios.runs import read_run

REPORT = "report"
"""`report.json` of a packing."""


def read_report(folder: Path) -> PackReport:
    """What the finished packing in `folder` tells of itself.

    Raises:
        MissingDataError: if there is no run.
        UnfinishedRunError: if it is not finished.
        DataError: if it is another kind of run.
    """
    run = read_run(folder)
    if run.manifest.kind is not RunKind.PACK:
        raise DataError(
            f"{str(folder)!r} is a {run.manifest.kind} run, it has no packed rows; "
            "give the folder of `astraios pack`"
        )
    return read_json(folder / f"{REPORT}.json", PackReport)


class Blocks(Sequence[Row]):
    """The rows of one split of a packing, in the order they are stored.

    Rows are views of the mapped files where they can be, and cannot be written to. A copy in
    another process maps the files anew.
    """

    lengths: NDArray[np.int32]
    """Tokens of each row."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open the split `train` or `validation` of the run folder `folder`.

        Raises:
            MissingDataError: if there is no packing, or a shard of it is gone.
            UnfinishedRunError: if it is not finished.
            DataError: if it is another kind of run, or a shard is not as it was written.
        """
        if split not in ("train", "validation"):
            raise DataError(f"packed rows have splits train and validation, not {split!r}")
        report = read_report(folder)
        self._folder, self._split = folder, split
        self._shards = [
            _Mapped(folder / shard.name, shard)
            for shard in report.shards
            if shard.name.startswith(f"{split}-")
        ]
        self._ends = np.cumsum([shard.n_rows for shard in self._shards])
        self.lengths = np.concatenate(
            [np.zeros(0, np.int32), *(shard.row_lengths for shard in self._shards)]
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        shard, place = self._find(at)
        return shard.row(place)

    def documents(self, at: int) -> tuple[str, ...]:
        """Ids of the records whose tokens are in row `at`, one for each document."""
        shard, place = self._find(at)
        return shard.records(place)

    def _find(self, at: int) -> tuple[_Mapped, int]:
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        number = int(np.searchsorted(self._ends, place, side="right"))
        shard = self._shards[number]
        return shard, place - int(self._ends[number]) + shard.n_rows

    def __reduce__(self) -> tuple[Any, ...]:
        return Blocks, (self._folder, self._split)


class _Mapped:
    """One shard, its columns as arrays."""

    def __init__(self, path: Path, shard: Shard) -> None:
        import pyarrow as pa

        if not path.is_file():
            raise MissingDataError(
                f"{str(path)!r} is gone, a shard of the packing; restore it, or remove the folder "
                "and pack again"
            )
        self.n_rows = shard.n_rows
        try:
            if path.stat().st_size != shard.n_bytes:
                raise pa.ArrowInvalid(f"{path.stat().st_size} bytes instead of {shard.n_bytes}")
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            mark = json.loads((reader.schema.metadata or {}).get(KEY, b"{}"))
            batch = reader.get_batch(0)
            if mark.get("format") != FORMAT or batch.num_rows != shard.n_rows:
                raise pa.ArrowInvalid("other contents than the report says")
            ids, in_loss, lengths, records = (
                batch.column(name) for name in ("ids", "in_loss", "lengths", "records")
            )
            self._isolated = mark["layout"] != "constant_length"
            self._ids: Ids = ids.values.to_numpy()
            self._bits = np.frombuffer(in_loss.values.buffers()[1], np.uint8)
            self._lengths: Ids = lengths.values.to_numpy()
            self._records = records.values
            self._ends = ids.offsets.to_numpy().tolist()
            self._document_ends = lengths.offsets.to_numpy().tolist()
            self.row_lengths: Ids = np.diff(ids.offsets.to_numpy())
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise DataError(
                f"{path}: not the shard that was written ({error}); "
                "restore it, or remove the folder and pack again"
            ) from None

    def row(self, at: int) -> Row:
        begin, end = self._ends[at : at + 2]
        ids = self._ids[begin:end]
        in_loss = self._mask(begin, end)
        if not self._isolated:
            return open_row(ids, in_loss)
        first, last = self._document_ends[at : at + 2]
        return isolated_row(ids, in_loss, self._lengths[first:last])

    def records(self, at: int) -> tuple[str, ...]:
        first, last = self._document_ends[at : at + 2]
        return tuple(self._records[first:last].to_pylist())

    def _mask(self, begin: int, end: int) -> Mask:
        """Arrow keeps eight truth values in a byte, the lowest bit first."""
        base = begin // 8
        bits = np.unpackbits(self._bits[base : (end + 7) // 8], bitorder="little")
        found: Mask = bits[begin - 8 * base : end - 8 * base].view(np.bool_)
        return found
