"""The rules of each source, row by row, in chunks that are put on disk whole.

A chunk holds what became of each of its rows. It is there or not: after a kill, the same command
takes up the rows behind the last one.

    <source>-<first row>.jsonl
      {"start": 0, "end": 2000, "last": false}
      {"passed": ...} or {"removed": ...}          a line for a row
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from astraios.data.building.config import BuildConfig
from astraios.data.building.contamination import Contamination
from astraios.data.building.plan import Plan, PlannedSource
from astraios.data.building.rows import ChunkHead, CorpusRow, Leak, Overlap, Passed, Removed
from astraios.data.building.secrets import scan
from astraios.data.building.steps import EMPTY, LANGUAGE, MESSAGES
from astraios.data.rowcorpus import messages_of
from astraios.data.rowfiles import text_columns
from astraios.data.rules import sift
from astraios.errors import DataError
from astraios.files import make_folder, readable, write_bytes
from astraios.progress import Progress, silent

_SIDES = ("prompt", "completion", "instruction", "response", "output")
_TOOLS = frozenset({"tool", "tool_call", "tool_response", "function", "function_call", "ipython"})
"""Roles that name no speaker."""

FOLDER = ".chunks"
"""Hidden in the run folder, and removed when the run is sealed."""


def filter_all(
    plan: Plan,
    folder: Path,
    contamination: Contamination | None,
    progress: Progress = silent,
) -> tuple[list[Path], int]:
    """Write the chunks that are missing; all paths in order, and how many rows they have."""
    make_folder(folder)
    chunks: list[Path] = []
    n_done = 0
    counts = [source.n_rows() for source in plan.sources]
    total = sum(count or 0 for count in counts)
    for number, source in enumerate(plan.sources):
        start, last = 0, False
        rows: Iterator[tuple[str, dict[str, Any]]] | None = None
        while not last:
            path = folder / f"{number:03}-{start:010}.jsonl"
            if path.exists():
                head = _head(path)
            else:
                if rows is None:
                    rows = source.read(start)
                head = _write(path, start, rows, source, plan.config, contamination)
            chunks.append(path)
            n_done += head.end - head.start
            start, last = head.end, head.last
            progress(n_done, max(total, n_done), source.config.title)
    return chunks, n_done


def _write(
    path: Path,
    start: int,
    rows: Iterator[tuple[str, dict[str, Any]]],
    source: PlannedSource,
    config: BuildConfig,
    contamination: Contamination | None,
) -> ChunkHead:
    lines = []
    for place, row in islice(rows, config.chunk):
        found = examine(row, place, source, contamination)
        kind = "passed" if isinstance(found, Passed) else "removed"
        lines.append(f'{{"{kind}": {found.model_dump_json()}}}\n')
    head = ChunkHead(start=start, end=start + len(lines), last=len(lines) < config.chunk)
    write_bytes(path, "".join([head.model_dump_json() + "\n", *lines]).encode())
    return head


def examine(
    row: Mapping[str, Any],
    place: str,
    source: PlannedSource,
    contamination: Contamination | None = None,
) -> Passed | Removed:
    """What becomes of a row under the rules of its source, and what is found in it.

    Raises:
        DataError: if it lacks columns.
    """
    title, by = source.config.title, source.filter
    n_unfit = 0
    if source.config.kind != "commits":
        row, n_unfit = _fit(row)
    try:
        parsed = by.parse(row, place)
        identity, language = by.identity(parsed), by.language(parsed)
        removed = Removed(id=identity, place=place, source=title, language=language, rule="")
        wanted = source.config.languages
        if wanted is not None and (language or "").lower() not in {w.lower() for w in wanted}:
            return removed.model_copy(update={"rule": LANGUAGE})
        if n_unfit:
            return removed.model_copy(update={"rule": MESSAGES, "detail": f"{n_unfit} of them"})
        kept, rule = sift(parsed, by.rules)
        if kept is None:
            return removed.model_copy(update={"rule": rule})
        record = by.joined(kept)
    except ValidationError as error:
        raise DataError(f"{place}: {error.errors()[0]['msg']}") from None
    if not record.instruction.strip() or not (record.opening + record.response).strip():
        return removed.model_copy(update={"rule": EMPTY})
    own = source.config.kind == "instructions" and row.get("source")
    opening, messages = record.opening, record.messages
    if source.config.kind == "instructions":  # the rules see neither, and neither is lost
        opening = text_columns(row, ("opening",), place)[0] if row.get("opening") else ""
        messages = messages_of(row["messages"], place) if row.get("messages") else ()
    found = CorpusRow(
        id=identity,
        source=record.source if own else title,
        language=record.language,
        prompt=record.instruction,
        opening=opening,
        completion=record.response,
        messages=messages,
    )
    searched = found.searched
    return Passed(
        place=place,
        source=title,
        row=found,
        leaks=tuple(Leak(kind=leak.kind, name=leak.name, at=leak.at) for leak in scan(searched)),
        overlaps=tuple(
            Overlap(
                benchmark=hit.benchmark,
                problem=hit.problem,
                part=hit.part,
                ngram=hit.ngram,
                n=hit.n,
            )
            for hit in (contamination.hits(searched) if contamination else ())
        ),
    )


def _fit(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """A row whose nulls are empty sides, without messages that cannot be read; how many those are.

    Such rows are common in data of others and are counted; a column that is not there, or a role
    that nobody uses, is a mistake that the row's parser names.
    """
    row = {**row, **{side: "" for side in _SIDES if side in row and row[side] is None}}
    for column, role, content in (
        ("messages", "role", "content"),
        ("conversations", "from", "value"),
    ):
        messages = row.get(column)
        if isinstance(messages, list):
            fit = [
                message
                for message in messages
                if not isinstance(message, Mapping)
                or not (
                    str(message.get(role)).strip().lower() in _TOOLS
                    or message.get("tool_calls")
                    or (content in message and message[content] is None)
                )
            ]
            return {**row, column: fit}, len(messages) - len(fit)
    return row, 0


def _head(path: Path) -> ChunkHead:
    with readable(path) as lines:
        try:
            return ChunkHead.model_validate_json(lines.readline())
        except ValidationError:
            raise _strange(path) from None


def outcomes(chunk: Path) -> Iterator[tuple[int, Passed | Removed]]:
    """What became of each row of a chunk, and where in the file that stands."""
    with readable(chunk) as lines:
        at = len(lines.readline())
        for line in lines:
            yield at, _outcome(line, chunk)
            at += len(line)


def passed_at(chunk: Path, at: int) -> CorpusRow:
    """The row that stands at a place of a chunk."""
    with readable(chunk) as file:
        file.seek(at)
        found = _outcome(file.readline(), chunk)
    if not isinstance(found, Passed):
        raise _strange(chunk)
    return found.row


def _outcome(line: bytes, chunk: Path) -> Passed | Removed:
    try:
        value = json.loads(line)
        if "passed" in value:
            return Passed.model_validate(value["passed"])
        return Removed.model_validate(value["removed"])
    except (ValueError, KeyError):
        raise _strange(chunk) from None


def _strange(chunk: Path) -> DataError:
    return DataError(
        f"{chunk}: not what this version writes; remove the run folder and build again"
    )
