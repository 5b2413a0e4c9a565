"""Rows of a benchmark: found where they should be, refused with file, line and column."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from astraios.errors import DataError, MissingDataError
from astraios.tasks._rows import Benchmark, read_rows

BENCHMARK = Benchmark(name="toy", hub="owner/toy", hub_file="data/{part}.jsonl")
COLUMNS = ("id", "text")
ROWS = [{"id": "a/0", "text": "one", "more": 1}, {"id": "a/1", "text": "two"}]


def write(folder, content, name="python.jsonl"):
    path = folder / "toy" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(folder):
    return read_rows(BENCHMARK, "python", COLUMNS, folder)


@pytest.mark.parametrize("name", ["python.jsonl", "python.jsonl.gz"])
def test_plain_and_gzip_files_give_the_same_rows(tmp_path, name):
    content = lines(ROWS).encode()
    write(tmp_path, gzip.compress(content, mtime=0) if name.endswith("gz") else content, name)
    assert read(tmp_path) == [{"id": "a/0", "text": "one"}, {"id": "a/1", "text": "two"}]


def test_missing_file_names_both_places_and_the_data_set(tmp_path):
    with pytest.raises(MissingDataError) as raised:
        read(tmp_path)
    for part in ("toy/python.jsonl.gz", "toy/python.jsonl'", "owner/toy", "--data-dir"):
        assert part in str(raised.value)


def test_without_folder_and_hub_library_the_message_names_both_ways(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDataError, match=r"huggingface_hub.*--data-dir"):
        read(None)


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    """A hub that refuses every connection, and the cache of its files."""
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits to try again"))
    return tmp_path / "datasets--owner--toy"


def test_hub_out_of_reach_is_one_message_at_once(unreachable, caplog):
    with pytest.raises(MissingDataError, match=r"toy: .*check the network, or give --data-dir"):
        read(None)
    assert caplog.records == []


@pytest.mark.parametrize("is_loaded", [True, False])
def test_hub_out_of_reach_takes_what_was_loaded_before(unreachable, is_loaded):
    commit = "0" * 40
    snapshot = unreachable / "snapshots" / commit / "data"
    snapshot.mkdir(parents=True)
    (unreachable / "refs").mkdir()
    (unreachable / "refs" / "main").write_text(commit)
    (snapshot / ("python.jsonl" if is_loaded else "java.jsonl")).write_text(lines(ROWS))
    if is_loaded:
        assert len(read(None)) == 2
    else:
        with pytest.raises(MissingDataError, match="check the network"):
            read(None)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lines([ROWS[0], {"id": "a/1"}]), r"python\.jsonl:2: column 'text' is missing"),
        (lines([{"id": "a/0", "text": None}]), r"python\.jsonl:1: column 'text' holds NoneType"),
        (lines([ROWS[0], ROWS[0]]), r"python\.jsonl:2: id 'a/0' is there twice, first at .*:1"),
        (lines(ROWS) + '{"id": "a/2", "te', r"python\.jsonl:3: not JSON"),
        ("[1]\n", r"python\.jsonl:1: expected an object"),
        (b'{"id": "\xff"}\n', r"python\.jsonl:1: not JSON"),
        ("[" * 100_000 + "\n", r"python\.jsonl:1: not JSON"),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path, content, complaint):
    write(tmp_path, content)
    with pytest.raises(DataError, match=complaint):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", [gzip.compress(lines(ROWS).encode(), mtime=0)[:-10], b"no gzip"]
)
def test_broken_gzip_is_refused(tmp_path, content):
    write(tmp_path, content, "python.jsonl.gz")
    with pytest.raises(DataError, match="broken gzip"):
        read(tmp_path)
