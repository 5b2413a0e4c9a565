"""A table: typed columns over plain rows, printed as CSV, Markdown, LaTeX, text and HTML cells.

Values stay numbers until they are printed. A value that is not there is None: a hole, printed as a
dash and left empty in CSV, never a zero.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from astraios.analysis import style

HOLE = "–"
MINUS = "−"


class Kind(StrEnum):
    """How the values of a column are printed."""

    TEXT = "text"
    METHOD = "method"
    """The name of a method: its title is printed, its name is in the CSV."""
    COUNT = "count"
    """A whole number, digits in groups of three."""
    SHARE = "share"
    """A fraction, printed in percent with two significant digits."""
    PERCENT = "percent"
    """A fraction, printed in percent with one decimal."""
    NUMBER = "number"
    """Three decimals."""
    SECONDS = "seconds"
    HOURS = "hours"
    """Hours or seconds, three significant digits."""
    MIB = "mib"
    MIB_SMALL = "mib_small"
    """Three significant digits: what a small adapter needs is less than one."""
    P_VALUE = "p_value"
    RATE = "rate"
    """A `Range` of fractions, printed in percent with its interval."""
    DIFFERENCE = "difference"
    """A `Range` of differences of fractions, printed in signed points with its interval."""
    CORRELATION = "correlation"
    """A `Range` of plain numbers, two decimals."""


WORDS = frozenset({Kind.TEXT, Kind.METHOD})
"""Kinds that are set from the left; numbers are set from the right."""


@dataclass(frozen=True)
class Range:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    certain: bool = False
    """For differences: adjusted p-value below 0.05; printed with a star."""
    marks: str = ""
    """Signs behind the value that the caption explains, such as daggers."""

    @classmethod
    def of(cls, row: Mapping[str, Any] | pd.Series | None, prefix: str = "") -> Range | None:
        """The range in the columns `value, low, high` (or prefixed); None where it is missing."""
        if row is None:
            return None
        ends = (prefix, f"{prefix}_low", f"{prefix}_high") if prefix else ("value", "low", "high")
        value, low, high = (math.nan if pd.isna(row[end]) else float(row[end]) for end in ends)
        if math.isnan(value):
            return None
        p_holm = row.get("p_holm")
        return cls(value, low, high, p_holm is not None and float(p_holm) < 0.05)


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    key: str
    title: str
    kind: Kind = Kind.TEXT
    note: str = ""
    """What the numbers are, for the column's tooltip."""
    marked: bool = False
    """Whether ranges carry `marks`; they take a column of their own in CSV."""


@dataclass(frozen=True)
class Table:
    """Rows of plain values under typed columns, and the caption that makes them readable."""

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    caption: str

    @classmethod
    def pivot(
        cls,
        frame: pd.DataFrame,
        *,
        rows: str,
        columns: str,
        value: str,
        kind: Kind = Kind.PERCENT,
        caption: str = "",
    ) -> Table:
        """One row per `rows`, one column per `columns`, cells from `value`, as they appear."""
        heads = [str(head) for head in dict.fromkeys(frame[columns])]
        cells: dict[str, dict[str, Any]] = {}
        for row, head, cell in zip(frame[rows], frame[columns], frame[value], strict=True):
            cells.setdefault(str(row), {})[str(head)] = cell
        body = tuple({rows: row, **found} for row, found in cells.items())
        typed = (Column(rows, rows), *(Column(head, head, kind) for head in heads))
        return cls(typed, body, caption)

    def cells(self, row: Mapping[str, Any]) -> list[str]:
        """The printed values of `row`."""
        return [self.cell(row, column) for column in self.columns]

    @staticmethod
    def cell(row: Mapping[str, Any], column: Column) -> str:
        """One printed value; methods go by their titles."""
        value = row.get(column.key)
        if column.kind == Kind.METHOD and value is not None:
            return style.title(str(value))
        return show(value, column.kind)

    def plain(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`row` with its ranges spelled out (`pass, pass_low, pass_high`) and holes as None."""
        found: dict[str, Any] = {}
        for column in self.columns:
            value = row.get(column.key)
            if isinstance(value, float) and math.isnan(value):
                value = None
            ends: tuple[Any, ...] = (value, None, None, None)
            if isinstance(value, Range):
                ends = (value.value, value.low, value.high, value.marks)
            found |= dict(zip(_csv_names(column), ends, strict=False))
        return found

    def csv(self) -> str:
        """Raw values; a range takes three columns, a hole is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([name for column in self.columns for name in _csv_names(column)])
        for row in self.rows:
            values = (_csv_values(row.get(column.key), column) for column in self.columns)
            writer.writerow([item for cell in values for item in cell])
        return out.getvalue()

    def markdown(self) -> str:
        """A pipe table and its caption."""
        heads = [markdown_text(column.title) for column in self.columns]
        rule = [":---" if column.kind in WORDS else "---:" for column in self.columns]
        body = [[markdown_text(cell) for cell in self.cells(row)] for row in self.rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (heads, rule, *body)]
        return "\n".join([*lines, "", markdown_text(self.caption), ""])

    def latex(self, label: str) -> str:
        """A `table` environment in booktabs style."""
        align = "".join("l" if column.kind in WORDS else "r" for column in self.columns)
        heads = " & ".join(latex_text(column.title) for column in self.columns)
        body = [" & ".join(map(latex_text, self.cells(row))) + r" \\" for row in self.rows]
        return "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{latex_text(self.caption)}}}",
                rf"\label{{tab:{label}}}",
                rf"\begin{{tabular}}{{{align}}}",
                r"\toprule",
                heads + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def text(self, keys: Sequence[str] = ()) -> str:
        """Aligned columns for a terminal; only those of `keys`, if given."""
        columns = [column for column in self.columns if not keys or column.key in keys]
        heads = [column.title for column in columns]
        body = [[self.cell(row, column) for column in columns] for row in self.rows]
        widths = [max(map(len, cells)) for cells in zip(heads, *body, strict=True)]

        def line(cells: list[str]) -> str:
            padded = (
                cell.ljust(width) if column.kind in WORDS else cell.rjust(width)
                for cell, width, column in zip(cells, widths, columns, strict=True)
            )
            return "  ".join(padded).rstrip()

        rule = "  ".join("─" * width for width in widths)
        return "\n".join([line(heads), rule, *map(line, body)])


# --- printing ---------------------------------------------------------------------------------


def show(value: Any, kind: Kind) -> str:
    """`value` as it is printed in a column of `kind`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return HOLE
    if isinstance(value, Range):
        mark = ("*" if value.certain else "") + value.marks
        return f"{show_value(value.value, kind)}{mark} {show_interval(value, kind)}".rstrip()
    return show_value(value, kind)


def show_value(value: Any, kind: Kind) -> str:
    """One number, or the middle of a range."""
    match kind:
        case Kind.COUNT:
            return f"{value:,.0f}"
        case Kind.SHARE:
            return _share(value)
        case Kind.PERCENT | Kind.RATE:
            return f"{100 * value:.1f}".replace("-", MINUS)
        case Kind.DIFFERENCE:
            return _signed(100 * value)
        case Kind.NUMBER:
            return f"{value:.3f}"
        case Kind.CORRELATION:
            return f"{value:.2f}".replace("-", MINUS)
        case Kind.SECONDS:
            return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
        case Kind.HOURS | Kind.MIB_SMALL:
            return _three_digits(value)
        case Kind.MIB:
            return f"{value:,.0f}"
        case Kind.P_VALUE:
            return "< 0.001" if value < 0.001 else f"{value:.3f}"
        case _:
            return str(value)


def show_interval(value: Range, kind: Kind) -> str:
    """The ends of a range: `[51.0, 64.4]`; differences are signed; nothing if there are none."""
    if math.isnan(value.low):
        return ""
    return f"[{show_value(value.low, kind)}, {show_value(value.high, kind)}]"


def _signed(points: float) -> str:
    text = f"{abs(points):.1f}"
    if text == "0.0":
        return text
    return ("+" if points > 0 else MINUS) + text


def _three_digits(value: float) -> str:
    """At least three significant digits, never with an exponent."""
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _share(value: float) -> str:
    """Two significant digits, but never fewer than the whole percent."""
    percent = 100 * value
    if percent == 0:
        return "0"
    if percent >= 10:
        return f"{percent:.0f}"
    return f"{percent:.{max(0, 1 - math.floor(math.log10(percent)))}f}"


def _csv_names(column: Column) -> list[str]:
    if column.kind in (Kind.RATE, Kind.DIFFERENCE, Kind.CORRELATION):
        ends = [column.key, f"{column.key}_low", f"{column.key}_high"]
        return [*ends, f"{column.key}_marks"] if column.marked else ends
    return [column.key]


def _csv_values(value: Any, column: Column) -> list[str]:
    n = len(_csv_names(column))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return [""] * n
    if isinstance(value, Range):
        ends = [_plain(end) for end in (value.value, value.low, value.high)]
        return [*ends, value.marks] if column.marked else ends
    return [_plain(value)] + [""] * (n - 1)


def _plain(value: Any) -> str:
    return f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)  # no negative zero


def markdown_text(text: str) -> str:
    """`text` on one line, its signs of Markdown and HTML escaped."""
    text = " ".join(text.split())
    text = "".join(f"\\{sign}" if sign in "\\|*_`[]" else sign for sign in text)
    return text.replace("<", "&lt;")


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MINUS: r"$-$",
    HOLE: "--",
    "–": "--",
    "Δ": r"$\Delta$",
    "³": r"$^3$",
    "×": r"$\times$",
    "†": r"\textsuperscript{\dag}",
    "‡": r"\textsuperscript{\ddag}",
}


def latex_text(text: str) -> str:
    """`text` with LaTeX's signs escaped."""
    return "".join(LATEX.get(sign, sign) for sign in text)
