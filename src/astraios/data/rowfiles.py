"""Rows of files: an object each, and the place it stands in. `hubrows.py` has those of the hub.

    name.jsonl  name.json  (.gz too)    an object a line
    name.parquet                        columns

Files are read as bytes: U+2028 in a text ends no line. A row that cannot be read is an error that
names its place; none is left out in silence.
"""

from __future__ import annotations

import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from astraios.errors import ConfigError, DataError, MissingToolError
from astraios.files import readable

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")

PlacedRow = tuple[str, dict[str, Any]]
"""`file:line` (of a Parquet file or a hub data set: `name:row`, from 1), and the row."""


class Rows(ABC):
    """A place that rows are read from, as often as wanted and from any row on."""

    name: str
    """What places begin with; no folder in it."""

    @abstractmethod
    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        """Rows from number `start` on, counted from 0.

        Raises:
            DataError: if a row cannot be read; names its place.
        """

    @abstractmethod
    def data_hash(self) -> str:
        """What tells these rows from others: the SHA-256 of a file, or a revision of the hub."""

    @abstractmethod
    def n_rows(self) -> int | None:
        """How many rows there are; None where only reading them would tell."""


def file_rows(path: Path) -> Rows:
    """The rows of one file.

    Raises:
        ConfigError: if its name ends in none of the known ways.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        return ParquetRows(path)
    if name.endswith(SUFFIXES):
        return JsonRows(path)
    raise ConfigError(
        f"{str(path)!r}: the name has to end in one of {', '.join(SUFFIXES)} to tell the format"
    )


@final
@dataclass(frozen=True)
class JsonRows(Rows):
    """A JSON object a line; lines of white space are no rows."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.path.name

    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        with self._open() as lines:
            n = 0
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                n += 1
                if n > start:
                    place = f"{self.name}:{number}"
                    yield place, _object(line.removeprefix(_BOM) if number == 1 else line, place)

    def data_hash(self) -> str:
        return _file_hash(self.path)

    def n_rows(self) -> int:
        with self._open() as lines:
            return sum(1 for line in lines if line.strip())

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with readable(self.path) as file:
            if not self.path.name.lower().endswith(".gz"):
                yield file
                return
            try:
                with gzip.open(file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise DataError(
                    f"{self.path}: not a whole gzip file ({error}); get it again, or take .gz off "
                    "its name if it is not packed"
                ) from None


_BOM = b"\xef\xbb\xbf"


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
            "convert the file, for example with `iconv -t utf-8`"
        ) from None
    except (ValueError, RecursionError) as error:
        whole = "; the file is one JSON list: write one object a line" if line[:1] == b"[" else ""
        raise DataError(f"{place}: not JSON ({error}){whole}") from None
    if not isinstance(row, dict):
        whole = ": one JSON list; write one object a line" if isinstance(row, list) else ""
        raise DataError(f"{place}: expected an object, found {_kind(row)}{whole}")
    return cast(dict[str, Any], _valid(row)) if b"\\u" in line else row


def _valid(value: Any) -> Any:
    """`value` with the lone surrogates of its texts as U+FFFD; pairs become their character."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_valid(item) for item in value]
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return value


@final
@dataclass(frozen=True)
class ParquetRows(Rows):
    """A Parquet file, read in batches."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.path.name

    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        file = self._file()
        first = 0  # number of the first row of a group: groups before `start` are not decoded
        for group in range(file.num_row_groups):
            n = file.metadata.row_group(group).num_rows
            if first + n > start:
                yield from self._group(file, group, first, start)
            first += n

    def _group(self, file: Any, group: int, first: int, start: int) -> Iterator[PlacedRow]:
        number = first
        try:
            for batch in file.iter_batches(batch_size=1_000, row_groups=[group]):
                for row in batch.to_pylist():
                    number += 1
                    if number > start:
                        yield f"{self.name}:{number}", row
        except (OSError, UnicodeDecodeError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise DataError(f"{self.path}:{number + 1}: cannot be read ({error})") from None

    def data_hash(self) -> str:
        return _file_hash(self.path)

    def n_rows(self) -> int:
        return int(self._file().metadata.num_rows)

    def _file(self) -> Any:
        try:
            from pyarrow import ArrowInvalid, parquet
        except ModuleNotFoundError:
            raise MissingToolError(
                f"{self.path}: reading Parquet needs pyarrow; "
                "install it with: pip install 'astraios[data]'"
            ) from None
        readable(self.path).close()
        try:
            return parquet.ParquetFile(self.path)
        except (ArrowInvalid, OSError) as error:
            raise DataError(f"{self.path}: not a Parquet file ({error})") from None


def text_columns(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> tuple[str, ...]:
    """The texts in the columns `names` of a row.

    Raises:
        DataError: if one is not there or holds no text.
    """
    missing = [name for name in names if name not in row]
    if missing:
        listed = ", ".join(map(repr, row)) or "none"
        raise DataError(
            f"{place}: no column {missing[0]!r}; expected {', '.join(names)}, found {listed}"
        )
    for name in names:
        if not isinstance(row[name], str):
            raise DataError(f"{place}: column {name!r} holds {_kind(row[name])}, expected text")
    return tuple(row[name] for name in names)


def _kind(value: Any) -> str:
    known = {type(None): "null", bool: "a truth value", dict: "an object", list: "a list"}
    return known.get(type(value), "a number" if isinstance(value, int | float) else "text")


def _file_hash(path: Path) -> str:
    digest = sha256()
    with readable(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
