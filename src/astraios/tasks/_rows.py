"""Reading a benchmark's rows: from a folder of files, else from the Hugging Face hub.

A data folder has one folder a benchmark, and in it one file a part:

    <data-dir>/humanevalpack/python.jsonl.gz      or python.jsonl

A row that lacks a column is refused with its file, line and column before anything is run.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios.errors import DataError, MissingDataError
from astraios.tasks._hub import hub_files

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's files are."""

    name: str
    """The folder inside a data folder."""
    hub: str
    """Data set of the Hugging Face hub."""
    hub_file: str
    """Path of a part's file in that data set; `{part}` is replaced."""


def read_rows(
    benchmark: Benchmark, part: str, columns: Sequence[str], data_dir: Path | None
) -> list[dict[str, str]]:
    """The text `columns` of all rows of `part`, in file order; the first column is the id.

    Raises:
        MissingDataError: where the file was looked for and how to get it.
        DataError: a row that is not JSON, lacks a column, or repeats an id; names file and line.
    """
    return [row for _, row in placed_rows(find(benchmark, part, data_dir), columns)]


def placed_rows(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of `path` as `read_rows` gives them, each with its place, `file:line`."""
    rows: list[tuple[str, dict[str, str]]] = []
    places: dict[str, str] = {}
    for where, row in numbered(path):
        texts = _texts(row, columns, where)
        name = texts[columns[0]]
        if name in places:
            raise DataError(
                f"{where}: {columns[0]} {name!r} is there twice, first at {places[name]}"
            )
        places[name] = where
        rows.append((where, texts))
    if not rows:
        raise DataError(f"{path}: the file is empty; expected one problem a line")
    return rows


def find(benchmark: Benchmark, part: str, data_dir: Path | None) -> Path:
    """The file of `part`: in `data_dir` if one is given, else downloaded from the hub."""
    if data_dir is None:
        return _download(benchmark, part)
    candidates = [
        data_dir / benchmark.name / f"{part}{suffix}" for suffix in (".jsonl.gz", ".jsonl")
    ]
    for path in candidates:
        if path.is_file():
            return path
    looked = " and ".join(repr(str(path)) for path in candidates)
    raise MissingDataError(
        f"{benchmark.name}: no rows for {part!r}; looked for {looked}. "
        f"Copy {benchmark.hub_file.format(part=part)} of the data set {benchmark.hub} there, "
        "or leave --data-dir out to load it from the Hugging Face hub"
    )


def _download(benchmark: Benchmark, part: str) -> Path:
    remedy = (
        "give --data-dir (or set ASTRAIOS_DATA) a folder that holds "
        f"{benchmark.name}/{part}.jsonl.gz"
    )
    file = benchmark.hub_file.format(part=part)
    return hub_files(benchmark.name, benchmark.hub, file, remedy) / file


def numbered(path: Path) -> Iterator[tuple[str, Row]]:
    """The objects of a JSONL file, plain or gzip, each with its place, `file:line`.

    Raises:
        MissingDataError: if the file cannot be read.
        DataError: a line that is no JSON object, or broken gzip data.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                yield where, _row(line, where)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(
            f"{path}: broken gzip data after line {number}; copy the file again"
        ) from None
    except OSError as error:
        raise MissingDataError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise DataError(f"{where}: not JSON ({error}); copy the file again") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with the problem's columns")
    return row


def _texts(row: Row, columns: Sequence[str], where: str) -> dict[str, str]:
    for column in columns:
        if column not in row:
            raise DataError(
                f"{where}: column {column!r} is missing; the row has {', '.join(sorted(row))}"
            )
        if not isinstance(row[column], str):
            raise DataError(
                f"{where}: column {column!r} holds {type(row[column]).__name__}, expected text"
            )
    return {column: row[column] for column in columns}
