"""Reading record files by column.

A study holds up to a million verdicts, and a table needs eight of their fields. So a file is
parsed whole by the C decoder, the wanted fields are taken out, and repeated text is stored once:
no model object is made per line. Whatever looks odd is read again by the strict reader, whose
error names the file, the line and the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from astraios.records import Outcome
from astraios.runs import Run

OUTCOMES = frozenset(Outcome)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `frame` as plain mappings."""
    return [dict(zip(map(str, row), row.values(), strict=True)) for row in frame.to_dict("records")]


class Coded:
    """A growing column of repeated text: one number a row, every distinct text once."""

    def __init__(self) -> None:
        self._codes: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        self._numbers: dict[str, int] = {}

    def extend(self, values: Sequence[str]) -> None:
        """Append `values`."""
        number = self._numbers
        codes = (number.setdefault(value, len(number)) for value in values)
        self._codes.append(np.fromiter(codes, dtype=np.int32, count=len(values)))

    def repeat(self, value: str, n: int) -> None:
        """Append `value` `n` times."""
        code = self._numbers.setdefault(value, len(self._numbers))
        self._codes.append(np.full(n, code, dtype=np.int32))

    def column(self) -> pd.Categorical[Any]:
        """Everything that was appended, as a pandas column."""
        codes = np.concatenate(self._codes) if self._codes else np.zeros(0, dtype=np.int32)
        return pd.Categorical.from_codes(codes, categories=pd.Index(list(self._numbers), dtype=str))


def read_columns(
    run: Run, name: str, record_type: type[BaseModel], wanted: Iterable[str]
) -> dict[str, list[Any]]:
    """The `wanted` fields of all whole records of `<name>.jsonl` and its parts.

    Returns:
        A list per field, all of one length, in file order.

    Raises:
        DataError: if a line is not such a record; names the file and the line.
    """
    wanted = tuple(wanted)
    columns: dict[str, list[Any]] = {field: [] for field in wanted}
    paths = [run.folder / f"{name}.jsonl", *sorted(run.folder.glob(f"{name}-*.jsonl"))]
    for path in paths:
        if not path.exists():
            continue
        data = path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]  # a torn last line is no record
        try:
            rows = json.loads(b"[" + b",".join(lines) + b"]")
            if len(rows) != len(lines):
                raise ValueError("lines and records differ in number")
            for field in wanted:
                default = record_type.model_fields[field].default
                if default is PydanticUndefined:
                    columns[field] += [row[field] for row in rows]
                else:
                    columns[field] += [row.get(field, default) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError):
            return _strictly(run, name, record_type, wanted)
    if not OUTCOMES.issuperset(columns.get("outcome", ())):
        return _strictly(run, name, record_type, wanted)
    return columns


def _strictly(
    run: Run, name: str, record_type: type[BaseModel], wanted: tuple[str, ...]
) -> dict[str, list[Any]]:
    records = [record.model_dump(mode="json") for record in run.read(name, record_type)]
    return {field: [record[field] for record in records] for field in wanted}
