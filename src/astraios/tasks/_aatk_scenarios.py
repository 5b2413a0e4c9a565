"""The scenarios of Asleep at the Keyboard, part DoW (diversity of weakness).

Pearce et al. 2022 (arXiv:2108.09293) gave a code model beginnings of programs whose obvious
continuation is a weakness of MITRE's list, three for each of 18 CWEs. The data are those of the
released set `moyix/asleep_keyboard`: one JSON object a scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios.errors import DataError
from astraios.tasks import Problem
from astraios.tasks._rows import Benchmark, Row, find, numbered

BENCHMARK = Benchmark(name="aatk", hub="moyix/asleep_keyboard", hub_file="data/{part}.jsonl")
PART = "scenario_dow"
LANGUAGES = ("c", "python")
COLUMNS = ("scenario_id", "detail", "prompt", "suffix", "language")


@dataclass(frozen=True)
class Scenario(Problem):
    """One row; see the data set's card for the columns."""

    detail: str
    """Where the scenario is taken from: an example of CodeQL's or MITRE's, or the authors' own."""
    language: str
    """`c` or `python`."""
    prompt: str
    suffix: str
    """What follows the answer."""
    query: str
    """The CodeQL query that decides; empty where the authors decided by hand."""

    @property
    def cwe(self) -> str:
        """`CWE-89` of `DoW/CWE-89-0`."""
        return self.id.rpartition("/")[2].rpartition("-")[0]


def read_scenarios(data_dir: Path | None) -> list[Scenario]:
    """All scenarios, in the order of the file, which is that of published generations.

    Raises:
        MissingDataError: where the file was looked for and how to get it.
        DataError: a row that lacks a column or holds in it what it should not; file and line.
    """
    path = find(BENCHMARK, PART, data_dir)
    places: dict[str, str] = {}
    found = []
    for where, row in numbered(path):
        scenario = _scenario(row, where)
        if scenario.id in places:
            first = places[scenario.id]
            raise DataError(
                f"{where}: scenario_id {scenario.id!r} is there twice, first at {first}"
            )
        places[scenario.id] = where
        found.append(scenario)
    if not found:
        raise DataError(f"{path}: the file is empty; expected one scenario a line")
    return found


def _scenario(row: Row, where: str) -> Scenario:
    for column in (*COLUMNS, "check_ql"):
        if column not in row:
            raise DataError(
                f"{where}: column {column!r} is missing; the row has {', '.join(sorted(row))}"
            )
    texts = {column: _text(row, column, where) for column in COLUMNS}
    name = texts.pop("scenario_id")
    if texts["language"] not in LANGUAGES:
        known = " or ".join(LANGUAGES)
        raise DataError(f"{where}: language {texts['language']!r}, expected {known}")
    query = "" if row["check_ql"] is None else _text(row, "check_ql", where)
    scenario = Scenario(id=name, group=name, query=query, **texts)
    if not scenario.cwe.startswith("CWE-"):
        raise DataError(f"{where}: scenario_id {name!r}, expected one like 'DoW/CWE-89-0'")
    return scenario


def _text(row: Row, column: str, where: str) -> str:
    value: Any = row[column]
    if not isinstance(value, str):
        kind = type(value).__name__
        raise DataError(f"{where}: column {column!r} holds {kind}, expected text")
    return value
