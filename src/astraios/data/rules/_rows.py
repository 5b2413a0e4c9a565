"""Columns of a raw row, read with complaints that name the place and what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from astraios.errors import DataError


def listed(row: Mapping[str, Any]) -> str:
    """The columns of a row, for a message."""
    return ", ".join(repr(str(name)) for name in row) or "none"


def texts(row: Mapping[str, Any], names: tuple[str, ...], kind: str, place: str) -> tuple[str, ...]:
    """The texts in the columns `names`.

    Raises:
        DataError: if a column is missing, or holds something else.
    """
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(
            f"{place}: a {kind} lacks the columns {', '.join(map(repr, missing))}; "
            f"columns there: {listed(row)}"
        )
    return tuple(_text(row[name], f"column {name!r}", place) for name in names)


def optional_text(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> str | None:
    """The text in the first of the columns `names` that is there and not null."""
    for name in names:
        if row.get(name) is not None:
            return _text(row[name], f"column {name!r}", place)
    return None


def identity(row: Mapping[str, Any], names: tuple[str, ...], place: str, *contents: str) -> str:
    """The id in one of the columns `names`, a text or a number; else a digest of the contents."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and _text(value, f"column {name!r}", place).strip():
            return str(value)
    joined = "\0".join(contents).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]


def _text(value: Any, what: str, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: {what} is {type(value).__name__}, expected a text")
    return value
