"""CodeXGLUE's test splits: every layout, every type of label, every fault by file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import DataError, MissingDataError
from astraios.tasks._codexglue import label_of

TASK = tasks.task("devign")
ROWS = [{"func": "int f;", "target": 1}, {"func": "int g;", "target": 0}]


def put(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / "devign" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def found(folder: Path) -> list[tuple[str, bool]]:
    return [(problem.code[0], problem.label) for problem in TASK.problems(folder)]


EXPECTED = [("int f;", True), ("int g;", False)]


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz", "devign_test.jsonl"])
def test_lines_are_read(tmp_path: Path, name: str) -> None:
    content = lines(*ROWS).encode()
    put(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    assert found(tmp_path) == EXPECTED


def test_parquet_of_the_hub_is_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="reading parquet files needs pyarrow")
    pq = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    (tmp_path / "devign").mkdir()
    rows = [{"id": at, "func": r["func"], "target": bool(r["target"])} for at, r in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "devign/test-00000-of-00001.parquet")
    assert found(tmp_path) == EXPECTED


def test_repository_files_are_read(tmp_path: Path) -> None:
    put(tmp_path, "test.txt", "1\n0\n")
    put(tmp_path, "function.json", json.dumps(ROWS[::-1]))
    assert found(tmp_path) == EXPECTED


@pytest.mark.parametrize("label", [1, 1.0, True, "1", " true ", "TRUE"], ids=repr)
def test_label_may_be_of_any_type(label: object) -> None:
    assert label_of(label, "here") is True


@pytest.mark.parametrize("label", [2, -1, None, "yes", "", [1], float("nan"), "0.5"], ids=repr)
def test_what_is_no_label_is_refused(label: object) -> None:
    with pytest.raises(DataError, match=r"here: .* is no label; expected 0 or 1"):
        label_of(label, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(ROWS[0], {"func": "f"}), r"test\.jsonl:2: column 'label' or 'target' is missing"),
        (lines(ROWS[0], {"target": 1}), r"test\.jsonl:2: column 'func' is missing"),
        (lines({"func": 3, "target": 1}), r":1: column 'func' holds int, expected text"),
        (lines({"func": "f", "target": 7}), r":1: column 'target': 7 is no label"),
        (lines({"func": "f", "label": 1, "complete": "so"}), r"column 'complete': 'so'"),
        (lines(ROWS[0]) + "{", r"test\.jsonl:2"),
        (lines([1]), r"test\.jsonl:1"),
        (b'{"func": "\xff", "target": 1}\n', r"test\.jsonl"),
        ("", "empty"),
    ],
    ids=["label", "func", "type", "value", "complete", "json", "object", "utf8", "empty"],
)
def test_faulty_rows_are_named(tmp_path: Path, content: bytes | str, message: str) -> None:
    put(tmp_path, "test.jsonl", content)
    with pytest.raises(DataError, match=message):
        TASK.problems(tmp_path)


@pytest.mark.parametrize(
    ("listing", "functions", "message"),
    [
        ("0\n5\n", json.dumps(ROWS), r"test\.txt:2: '5' is no function"),
        ("x\n", json.dumps(ROWS), r"test\.txt:1: 'x' is no function"),
        ("0\n", "{}", "expected a JSON list"),
        ("0\n", "[", "copy the files again"),
        ("0\n", "[3]", "function 0: expected an object"),
    ],
    ids=["range", "number", "object", "json", "row"],
)
def test_faults_of_repository_files_are_named(tmp_path, listing, functions, message) -> None:
    put(tmp_path, "test.txt", listing)
    put(tmp_path, "function.json", functions)
    with pytest.raises(DataError, match=message):
        TASK.problems(tmp_path)


def test_missing_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"test\.jsonl\.gz.*code_x_glue_cc_defect_detection"):
        TASK.problems(tmp_path)
