"""Tables as the page shows them: printed cells with what sorting and the small bars need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

from astraios.analysis import style
from astraios.analysis.style import Look
from astraios.analysis.tables import WORDS, Column, Kind, Range, Table, show_interval, show_value

LETTERS = MappingProxyType({1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"})
"""Codes of a matplotlib path -> commands of an SVG path."""


@dataclass(frozen=True)
class Bar:
    """Where a value and its interval lie on the scale of their column, percent of its width."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Cell:
    """One printed cell."""

    text: str
    interval: str = ""
    sort: str = ""
    """What the column is sorted by; empty cells go last."""
    words: bool = False
    certain: bool = False
    marks: str = ""
    bar: Bar | None = None
    look: int | None = None
    """Number of the method's look, for its mark."""


@dataclass(frozen=True)
class PageTable:
    """A table ready for the template."""

    columns: tuple[Column, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    methods: tuple[str, ...] = ()
    """Of every row, the numbers of the methods it is about, separated by blanks."""


def page_table(table: Table, looks: Mapping[str, Look]) -> PageTable:
    """`table` with bars for its rates, all of one column on one scale."""
    tops = {column.key: _top(table, column) for column in table.columns}
    numbers = {name: number for number, name in enumerate(looks)}
    rows = tuple(
        tuple(_cell(table, row, column, tops[column.key], numbers) for column in table.columns)
        for row in table.rows
    )
    return PageTable(
        table.columns,
        tuple(column.kind not in WORDS for column in table.columns),
        rows,
        table.caption,
        tuple(" ".join(str(cell.look) for cell in row if cell.look is not None) for row in rows),
    )


def _top(table: Table, column: Column) -> float:
    """The end of a rate column's scale: its highest interval, rounded up to tenths."""
    if column.kind != Kind.RATE:
        return 0.0
    found = (row.get(column.key) for row in table.rows)
    ends = [cell.high for cell in found if isinstance(cell, Range) and not math.isnan(cell.high)]
    highest = max(ends, default=0.0)
    return max(0.1, math.ceil(highest * 10) / 10)


def _cell(
    table: Table, row: Mapping[str, Any], column: Column, top: float, numbers: Mapping[str, int]
) -> Cell:
    value, words = row.get(column.key), column.kind in WORDS
    if isinstance(value, Range):
        ends = (value.low, value.value, value.high)
        return Cell(
            show_value(value.value, column.kind),
            show_interval(value, column.kind),
            f"{value.value:.9g}",
            certain=value.certain,
            marks=value.marks,
            bar=_bar(ends, top),
        )
    text = table.cell(row, column)
    if column.kind == Kind.METHOD:
        place = numbers.get(str(value))
        order = list(style.order([*numbers, str(value)])).index(str(value)) if value else 0
        return Cell(text, "", f"{order:04d}" if value else "", True, look=place)
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    sort = "" if missing else (text if words else f"{value:.9g}")
    return Cell(text, "", sort, words)


def _bar(ends: tuple[float, float, float], top: float) -> Bar | None:
    """Where the ends lie on a scale from zero to `top`; what is off the scale lies at its end."""
    if not top or any(math.isnan(end) for end in ends):
        return None
    return Bar(*(100 * min(max(end / top, 0.0), 1.0) for end in ends))


def mark(look: Look) -> str:
    """The method's marker as the `d` of an SVG path in a box from -1 to 1."""
    shape = MarkerStyle(look.marker)
    # SVG counts downwards, matplotlib upwards.
    path = shape.get_path().transformed(shape.get_transform() + Affine2D().scale(1, -1))
    extent = float(np.abs(np.asarray(path.vertices)).max()) or 1.0
    steps = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        letter = LETTERS[int(code)]
        numbers = " ".join(f"{number / extent:.3f}" for number in points)
        steps.append(letter if letter == "Z" else letter + numbers)
    return "".join(steps)
