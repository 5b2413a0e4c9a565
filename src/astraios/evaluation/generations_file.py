"""Reading a file of generations as a stream, plain or gzip, with a place for every complaint.

Two shapes, told apart by the first character:

    [["text", ...], ...]     a JSON list of lists, as the BigCode harness writes it
    {"task_id": ...}         one JSON object a line

Memory is bounded by the longest text that is accepted, not by the file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO

from astraios.errors import GenerationsError, MissingDataError

LONGEST_TEXT = 1 << 22
"""Characters; 2048 tokens, the most a published completion has, are below 1 % of it."""

CHUNK = 1 << 16
"""Characters read at least at a time."""

SPACE = " \t\n\r"
SPLIT_AT_MOST = 16
"""Characters before the end of a chunk within which a JSON error may come from the cut."""

MEANT = (
    "expected a JSON list with one list of texts for every problem, "
    "or one JSON object a line (.jsonl)"
)


class Shape(StrEnum):
    """How a file is laid out."""

    LISTS = "lists"
    LINES = "lines"


def checksum(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with _readable(path), path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def shape(path: Path) -> Shape:
    """The layout of the file.

    Raises:
        MissingDataError: if there is no such file, or it cannot be read.
        GenerationsError: if it is empty or neither layout.
    """
    with _readable(path), _text(path) as text:
        while start := text.read(CHUNK):
            if start.strip(SPACE):
                first = start.strip(SPACE)[0]
                if first == "[":
                    return Shape.LISTS
                if first == "{":
                    return Shape.LINES
                raise GenerationsError(f"{path}: starts with {first!r}, which is not JSON; {MEANT}")
    raise GenerationsError(f"{path}: the file is empty; {MEANT}")


def list_items(path: Path) -> Iterator[tuple[int, int | None, Any]]:
    """Yield (list, place in it, value) for a list of lists; place None announces a list.

    With `[["a", "b"], []]`:

        (0, None, None)  (0, 0, "a")  (0, 1, "b")  (1, None, None)

    A member that is no list is yielded as (list, -1, value).

    Raises:
        GenerationsError: where it is not JSON; line and column.
    """
    with _readable(path), _text(path) as text:
        cursor = _Cursor(path, text)
        for number, _ in enumerate(cursor.members()):
            if cursor.peek() != "[":
                yield number, -1, cursor.value()
                continue
            yield number, None, None
            for place, _ in enumerate(cursor.members()):
                yield number, place, cursor.value()
        if cursor.peek():
            cursor.fail("more text after the end of the list")


def line_items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for one JSON object a line; blank lines are skipped.

    Raises:
        GenerationsError: where a line is no JSON object; line and column.
    """
    with _readable(path), _bytes(path) as file:
        number = 0
        while line := file.readline(4 * LONGEST_TEXT):
            number += 1
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) == 4 * LONGEST_TEXT:
                raise GenerationsError(f"{path}:{number}: {TOO_LONG}")
            if line.strip():
                yield number, _object(path, number, line)


TOO_LONG = f"holds a text of more than {LONGEST_TEXT:,} characters; no program is that long"


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        if not line.endswith(b"\n") and number > 1:
            raise GenerationsError(
                f"{path}:{number}: the last line is cut off; copy the file again, or remove it"
            ) from None
        raise GenerationsError(
            f"{path}:{number}:{error.pos + 1}: not JSON ({error.msg}); {MEANT}"
        ) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, huge numbers, nested too deeply
        raise GenerationsError(f"{path}:{number}: not JSON ({_reason(error)})") from None
    if not isinstance(value, dict):
        raise GenerationsError(f"{path}:{number}: expected a JSON object, found {kind(value)}")
    return value


def kind(value: Any) -> str:
    """What a JSON value is called in a message."""
    if value is None:
        return "null"
    names = {bool: "a truth value", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


# --- opening ----------------------------------------------------------------------------------


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MissingDataError(f"generations file {str(path)!r} does not exist") from None
    except IsADirectoryError:
        raise MissingDataError(
            f"{str(path)!r} is a folder; give the file of generations in it"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise GenerationsError(
            f"{path}: the gzip data are broken or end too early; copy the file again"
        ) from None
    except UnicodeDecodeError as error:
        raise GenerationsError(
            f"{path}: not UTF-8 text ({error.reason}); copy the file again"
        ) from None
    except OSError as error:
        raise MissingDataError(f"cannot read {str(path)!r}: {error.strerror or error}") from None


def _bytes(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"  # whatever the name says
    return gzip.open(path) if zipped else path.open("rb")  # type: ignore[return-value]


def _text(path: Path) -> TextIO:
    return io.TextIOWrapper(_bytes(path), encoding="utf-8-sig", newline="")


# --- a JSON list, piece by piece --------------------------------------------------------------


class _Cursor:
    """A place in JSON text that is read in chunks."""

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._line, self._column = 1, 1
        self._decoder = json.JSONDecoder()

    def members(self) -> Iterator[None]:
        """Step through the list that starts here; the caller takes one value at each step."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield
            if self.peek() == "]":
                self._take("]")
                return
            self._take(",")

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._more():
                return ""

    def value(self) -> Any:
        """The JSON value that starts here."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                offset = error.pos - self._at
                is_open = error.msg.startswith("Unterminated string")
                split = error.pos > len(self._buffer) - SPLIT_AT_MOST
                if (split or is_open) and self._more():
                    continue
                self._at = len(self._buffer) if is_open else self._at + offset
                self.fail(error.msg)
            except (ValueError, RecursionError) as error:
                self.fail(_reason(error))
            if end == len(self._buffer) and not isinstance(value, str) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def fail(self, what: str) -> NoReturn:
        """Raise an error that names this place."""
        self._forget()
        if self._ended and self._at == len(self._buffer):
            what = "the file ends in the middle of the list; copy it again"
        raise GenerationsError(f"{self._path}:{self._line}:{self._column}: not JSON: {what}")

    def _take(self, sign: str) -> None:
        if self.peek() != sign:
            self.fail(f"expected {sign!r}")
        self._at += 1

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        self._forget()
        if len(self._buffer) > 2 * LONGEST_TEXT:  # an escape takes up to six characters
            raise GenerationsError(f"{self._path}:{self._line}:{self._column}: {TOO_LONG}")
        chunk = self._text.read(max(CHUNK, len(self._buffer)))
        self._buffer += chunk
        self._ended = not chunk
        return bool(chunk)

    def _forget(self) -> None:
        """Drop what was read, and count its lines."""
        gone, self._buffer, self._at = self._buffer[: self._at], self._buffer[self._at :], 0
        n_lines = gone.count("\n")
        self._line += n_lines
        self._column = len(gone) - gone.rfind("\n") if n_lines else self._column + len(gone)
