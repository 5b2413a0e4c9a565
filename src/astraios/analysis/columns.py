"""Some fields of record files, read by column.

A file is parsed whole by Polars, only the wanted fields and problems are taken out, and no model
object is made per line. Whatever looks odd is read again by the strict reader, whose error names
the file, the line and the remedy. Verdicts that are counted go through `reading.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel

from astraios.files import readable
from astraios.records import Outcome
from astraios.runs import Run

if TYPE_CHECKING:
    import polars as pl

OUTCOMES = frozenset(Outcome)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `frame` as plain mappings."""
    return [dict(zip(map(str, row), row.values(), strict=True)) for row in frame.to_dict("records")]


def read_columns(
    run: Run,
    name: str,
    record_type: type[BaseModel],
    wanted: Iterable[str],
    problems: Collection[str] | None = None,
) -> dict[str, list[Any]]:
    """The `wanted` fields of whole records of `<name>.jsonl` and its parts.

    Args:
        run: where the records are.
        name: of the file, without its ending.
        record_type: what its lines are.
        wanted: fields that hold text or whole numbers.
        problems: ids of the problems whose records are wanted; all, if None.

    Returns:
        A list per field, all of one length, in file order.

    Raises:
        DataError: if a line is not such a record; names the file and the line.
    """
    wanted = tuple(wanted)
    columns: dict[str, list[Any]] = {field: [] for field in wanted}
    for path in [run.folder / f"{name}.jsonl", *sorted(run.folder.glob(f"{name}-*.jsonl"))]:
        if not path.exists():
            continue
        found = _parsed(path, record_type, wanted, problems)
        if found is None:
            return _strictly(run, name, record_type, wanted, problems)
        for field in wanted:
            columns[field] += found[field].to_list()
    return columns


def _parsed(
    path: Path,
    record_type: type[BaseModel],
    wanted: tuple[str, ...],
    problems: Collection[str] | None,
) -> pl.DataFrame | None:
    """The fields of one file; None if there is anything that the strict reader must look at."""
    import polars as pl

    fields = wanted if problems is None or "problem_id" in wanted else (*wanted, "problem_id")
    with readable(path) as file:
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]  # a torn last line is no record
    if not data:
        return pl.DataFrame(schema=_schema(record_type, fields))
    try:
        found = pl.read_ndjson(data, schema=_schema(record_type, fields))
    except pl.exceptions.PolarsError:
        return None
    if len(found) != data.count(b"\n"):
        return None
    # A field that is not there is null too, and its default is the strict reader's business.
    if any(found[field].null_count() for field in fields):
        return None
    if "outcome" in fields and not OUTCOMES.issuperset(found["outcome"].unique()):
        return None
    if problems is not None:
        found = found.filter(pl.col("problem_id").is_in(list(problems)))
    return found


def _schema(record_type: type[BaseModel], fields: tuple[str, ...]) -> dict[str, type[pl.DataType]]:
    import polars as pl

    return {
        field: pl.Int64 if record_type.model_fields[field].annotation is int else pl.String
        for field in fields
    }


def _strictly(
    run: Run,
    name: str,
    record_type: type[BaseModel],
    wanted: tuple[str, ...],
    problems: Collection[str] | None,
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {field: [] for field in wanted}
    for record in run.read(name, record_type):
        if problems is not None and getattr(record, "problem_id", None) not in problems:
            continue
        for field in wanted:
            value = getattr(record, field)
            columns[field].append(str(value) if isinstance(value, StrEnum) else value)
    return columns
