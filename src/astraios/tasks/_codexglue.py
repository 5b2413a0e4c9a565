"""Test splits of CodeXGLUE (Lu et al. 2021, arXiv:2102.04664), in the layouts they are passed on.

    <benchmark>_test.jsonl(.gz), test.jsonl(.gz)    one problem a line
    test*.parquet                                   the hub's files (needs pyarrow)
    test.txt with function.json or data.jsonl       the files of the CodeXGLUE repository

all in `<data-dir>/<benchmark>/`. Without a data folder the hub's files are downloaded.

A split is read twice: once to check every row and take its label, once for the rows that are asked
for. BigCloneBench's test split has 415,416 pairs, 1.2 GB of text, of which a few thousand are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios.errors import DataError, MissingDataError
from astraios.tasks._hub import hub_files
from astraios.tasks._rows import Row, numbered

Placed = Iterator[tuple[str, Row]]
"""Rows, each with its place, `file:line`."""

PART = "test"
COMPLETE = "complete"
"""Optional column: whether the code in the row is whole."""


@dataclass(frozen=True)
class Split:
    """Where a test split is, and what its rows hold."""

    name: str
    """The folder inside a data folder."""
    hub: str
    """Data set of the Hugging Face hub."""
    code: tuple[str, ...]
    """Columns with code."""
    label: tuple[str, ...]
    """Names of the column with the label; the first that a row has is taken."""
    raw: tuple[str, str]
    """The two files of the CodeXGLUE repository."""
    read_raw: Callable[[Path, Path], Placed]
    """Reads them."""


@dataclass(frozen=True)
class Example:
    """One row, its label and code checked."""

    position: int
    """Place in the split, counted from 0."""
    label: bool
    code: tuple[str, ...]
    is_whole: bool


def read(
    split: Split,
    data_dir: Path | None,
    choose: Callable[[Sequence[bool]], Sequence[int]],
) -> list[Example]:
    """The examples that `choose` picks, by position, out of all labels; in its order.

    Raises:
        MissingDataError: where the files were looked for and how to get them.
        DataError: a row that lacks a column, or holds in it what it should not; file and line.
    """
    open_rows = _find(split, data_dir)
    labels = [_example(split, at, where, row).label for at, (where, row) in enumerate(open_rows())]
    if not labels:
        raise DataError(f"{split.name}: the test split is empty; expected one problem a line")
    chosen = choose(labels)
    wanted = frozenset(chosen)
    found = {
        at: _example(split, at, where, row)
        for at, (where, row) in enumerate(open_rows())
        if at in wanted
    }
    return [found[at] for at in chosen]


def label_of(value: Any, where: str) -> bool:
    """A label as a truth value: 0 and 1, false and true, or the text of one of them.

    Raises:
        DataError: if it is none of these.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("0", "1", "false", "true"):
        return value.strip().lower() in ("1", "true")
    raise DataError(f"{where}: {value!r} is no label; expected 0 or 1, false or true")


def _example(split: Split, position: int, where: str, row: Row) -> Example:
    name = next((name for name in split.label if name in row), None)
    if name is None:
        listed = " or ".join(map(repr, split.label))
        raise DataError(f"{where}: column {listed} is missing; the row has {_columns(row)}")
    code = []
    for column in split.code:
        if column not in row:
            raise DataError(f"{where}: column {column!r} is missing; the row has {_columns(row)}")
        if not isinstance(row[column], str):
            held = type(row[column]).__name__
            raise DataError(f"{where}: column {column!r} holds {held}, expected text")
        code.append(row[column])
    is_whole = label_of(row.get(COMPLETE, True), f"{where}: column {COMPLETE!r}")
    return Example(
        position, label_of(row[name], f"{where}: column {name!r}"), tuple(code), is_whole
    )


def _columns(row: Row) -> str:
    return ", ".join(sorted(map(str, row))) or "none"


# --- where the files are ----------------------------------------------------------------------


def _find(split: Split, data_dir: Path | None) -> Callable[[], Placed]:
    folder = _download(split) if data_dir is None else data_dir / split.name
    lines = [
        folder / f"{stem}{suffix}"
        for stem in (f"{split.name}_{PART}", PART)
        for suffix in (".jsonl.gz", ".jsonl")
    ]
    for path in lines:
        if path.is_file():
            return lambda: numbered(path)
    shards = sorted([*folder.glob(f"{PART}*.parquet"), *folder.glob(f"data/{PART}*.parquet")])
    if shards:
        columns = (*split.code, *split.label, COMPLETE)
        return lambda: parquet_rows(shards, f"put {PART}.jsonl there instead", columns)
    raw = folder / split.raw[0], folder / split.raw[1]
    if all(path.is_file() for path in raw):
        return lambda: split.read_raw(*raw)
    looked = ", ".join(repr(str(path)) for path in lines)
    raise MissingDataError(
        f"{split.name}: no test split; looked for {looked}, test*.parquet and the pair "
        f"{split.raw[0]}, {split.raw[1]} in {str(folder)!r}. Copy one of them there (the hub's "
        f"data set {split.hub} has the parquet files), or leave --data-dir out to load it"
    )


def _download(split: Split) -> Path:
    remedy = (
        f"give --data-dir (or set ASTRAIOS_DATA) a folder that holds {split.name}/{PART}.jsonl.gz"
    )
    return hub_files(split.name, split.hub, f"data/{PART}-*.parquet", remedy)


def parquet_rows(
    shards: Sequence[Path], remedy: str, columns: Sequence[str] | None = None
) -> Placed:
    """The rows of parquet files, each with its place; of `columns` those that are there, or all.

    Raises:
        MissingDataError: if pyarrow, which reads them, is not installed.
        DataError: if a file is none.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingDataError(
            f"{shards[0]}: reading parquet files needs pyarrow; pip install pyarrow, or {remedy}"
        ) from None
    for path in shards:
        try:
            file = ParquetFile(path)
            names = file.schema_arrow.names
            held = names if columns is None else [name for name in columns if name in names]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=held):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
        except (ArrowException, OSError) as error:
            raise DataError(f"{path}: no parquet file ({error}); copy the file again") from None
