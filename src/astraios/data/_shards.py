"""Rows in Arrow files, each small enough to be held in memory while it is written.

    ids       list<int32>    token ids
    in_loss   list<bool>     which of them are targets
    lengths   list<int32>    tokens of each document in the row
    records   list<string>   the record each document came from

A shard is one record batch in Arrow's file format, so that a reader maps it and copies nothing. Its
schema says how the rows were laid out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from astraios import files
from astraios.data._report import Shard
from astraios.data.tokens import Counts, Ids, Mask

FORMAT = 1
KEY = b"astraios"

SHARD_TOKENS = 1 << 24
"""Tokens a shard has at most: 64 MiB of ids."""


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:05}.arrow"


def schema(layout: str, block_length: int) -> Any:
    """The columns of a shard, with what its rows are."""
    import pyarrow as pa

    mark = {"format": FORMAT, "layout": layout, "block_length": block_length}
    return pa.schema(
        [
            ("ids", pa.list_(pa.int32())),
            ("in_loss", pa.list_(pa.bool_())),
            ("lengths", pa.list_(pa.int32())),
            ("records", pa.list_(pa.string())),
        ],
        metadata={KEY: json.dumps(mark, sort_keys=True).encode()},
    )


class ShardWriter:
    """Takes rows and writes a shard whenever enough are there; each file is whole or not there."""

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        layout: str,
        block_length: int,
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        self.shards: list[Shard] = []
        self._folder, self._split = folder, split
        self._schema = schema(layout, block_length)
        self._shard_tokens = shard_tokens
        self._rows: list[tuple[Ids, Mask, Counts, Sequence[str]]] = []
        self._n_tokens = 0

    def add(self, ids: Ids, in_loss: Mask, lengths: Counts, names: Sequence[str]) -> None:
        """Take a row.

        Raises:
            StorageError: if a shard is full and cannot be written.
        """
        if self._rows and self._n_tokens + len(ids) > self._shard_tokens:
            self._write()
        self._rows.append((ids, in_loss, lengths, names))
        self._n_tokens += len(ids)

    def close(self) -> None:
        """Write the rows that are left."""
        if self._rows:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        ids, in_loss, lengths, names = zip(*self._rows, strict=True)
        by_token, by_document = _offsets(ids), _offsets(lengths)
        columns = (
            (by_token, pa.array(np.concatenate(ids), pa.int32())),
            (by_token, pa.array(np.concatenate(in_loss), pa.bool_())),
            (by_document, pa.array(np.concatenate(lengths).astype(np.int32))),
            (by_document, pa.array(list(chain.from_iterable(names)), pa.string())),
        )
        batch = pa.record_batch(
            [pa.ListArray.from_arrays(pa.array(offsets), values) for offsets, values in columns],
            schema=self._schema,
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as out:
            out.write_batch(batch)
        data: bytes = sink.getvalue().to_pybytes()
        name = shard_name(self._split, len(self.shards))
        files.write_bytes(self._folder / name, data)
        self.shards.append(
            Shard(
                name=name,
                n_rows=len(self._rows),
                n_bytes=len(data),
                sha256=sha256(data).hexdigest(),
            )
        )
        self._rows, self._n_tokens = [], 0


def _offsets(lists: Sequence[Any]) -> Ids:
    return np.cumsum([0, *map(len, lists)], dtype=np.int32)
