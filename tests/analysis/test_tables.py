"""How tables are printed."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.analysis.tables import HOLE, Column, Kind, Range, Table, show

TABLE = Table(
    (
        Column("method", "Method", Kind.METHOD),
        Column("n", "Trained", Kind.COUNT),
        Column("pass", "pass@1 %", Kind.RATE),
        Column("gain", "Δ base", Kind.DIFFERENCE),
    ),
    (
        {"method": "base", "n": 0, "pass": Range(0.02, 0.005, 0.04)},
        {
            "method": "ia3",
            "n": 2112,
            "pass": Range(0.23, 0.175, 0.29),
            "gain": Range(-0.21, -0.265, 0.0, True),
        },
    ),
    "pass@1 of two_methods, 95 %.",
)


def test_csv_has_raw_values_and_empty_holes() -> None:
    assert TABLE.csv() == (
        "method,n,pass,pass_low,pass_high,gain,gain_low,gain_high\n"
        "base,0,0.02,0.005,0.04,,,\n"
        "ia3,2112,0.23,0.175,0.29,-0.21,-0.265,0\n"
    )


def test_markdown_has_titles_and_intervals() -> None:
    assert TABLE.markdown() == (
        "| Method | Trained | pass@1 % | Δ base |\n"
        "| :--- | ---: | ---: | ---: |\n"
        "| Base (untuned) | 0 | 2.0 \\[0.5, 4.0\\] | – |\n"
        "| (IA)³ | 2,112 | 23.0 \\[17.5, 29.0\\] | −21.0\\* \\[−26.5, 0.0\\] |\n"
        "\n"
        "pass@1 of two\\_methods, 95 %.\n"
    )


def test_latex_escapes_what_tex_would_read() -> None:
    text = TABLE.latex("results")
    assert r"pass@1 of two\_methods, 95 \%." in text
    assert r"(IA)$^3$ & 2,112 & 23.0 [17.5, 29.0] & $-$21.0* [$-$26.5, 0.0] \\" in text


def test_plain_rows_spell_ranges_out() -> None:
    assert TABLE.plain(TABLE.rows[0]) == {
        "method": "base",
        "n": 0,
        "pass": 0.02,
        "pass_low": 0.005,
        "pass_high": 0.04,
        "gain": None,
        "gain_low": None,
        "gain_high": None,
    }


def test_text_columns_line_up() -> None:
    lines = TABLE.text(["method", "n"]).splitlines()
    assert lines == ["Method          Trained", "─" * 14 + "  " + "─" * 7,
                     "Base (untuned)        0", "(IA)³             2,112"]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "kind", "printed"),
    [
        (None, Kind.COUNT, HOLE),
        (float("nan"), Kind.NUMBER, HOLE),
        (0.00018, Kind.SHARE, "0.018"),
        (0.0432, Kind.SHARE, "4.3"),
        (1.0, Kind.SHARE, "100"),
        (0.0, Kind.DIFFERENCE, "0.0"),
        (0.0001, Kind.P_VALUE, "< 0.001"),
        (12345.6, Kind.SECONDS, "12,346"),
        (Range(-1.0, float("nan"), float("nan")), Kind.CORRELATION, "−1.00"),
    ],
)
def test_values_are_printed_by_their_kind(value: object, kind: Kind, printed: str) -> None:
    assert show(value, kind) == printed


def test_pivot_keeps_missing_cells_as_holes() -> None:
    frame = pd.DataFrame({"method": ["a", "b"], "language": ["js", "go"], "value": [0.5, 0.25]})
    table = Table.pivot(frame, rows="method", columns="language", value="value")
    assert [table.cells(row) for row in table.rows] == [["a", "50.0", HOLE], ["b", HOLE, "25.0"]]


@given(st.text(max_size=40))
def test_any_text_survives_the_csv(text: str) -> None:
    text = text.replace("\x00", "").replace("\r", "")
    table = Table((Column("a", "A"),), ({"a": text},), "")
    assert list(csv.reader(io.StringIO(table.csv(), newline="")))[1:] in ([[text]], [[]])


@given(st.text(max_size=40))
def test_markdown_keeps_a_row_in_its_cells(text: str) -> None:
    table = Table((Column("a", "A"), Column("b", "B")), ({"a": text, "b": "x"},), "")
    row = table.markdown().split("\n")[2]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert "<" not in row
