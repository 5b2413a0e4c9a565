"""Rows of files and of the hub: read whole, from any row on, with a place for every complaint."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.hubrows import hub_rows
from astraios.data.rowfiles import file_rows
from astraios.errors import ConfigError, DataError, MissingDataError

ROWS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(7)]


def lines(rows):
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def written(folder, name, rows):
    path = folder / name
    if name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines(rows)))
    else:
        path.write_bytes(lines(rows))
    return path


FORMATS = ("rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.parquet")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    found = list(file_rows(written(tmp_path, name, ROWS)).read())
    assert [row for _, row in found] == ROWS
    assert [place for place, _ in found] == [f"{name}:{i}" for i in range(1, 8)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("start", [0, 1, 3, 4, 6, 7, 9])
def test_reading_starts_at_any_row(tmp_path, name, start):
    rows = file_rows(written(tmp_path, name, ROWS))
    assert list(rows.read(start)) == list(rows.read())[start:]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_counted(tmp_path, name):
    assert file_rows(written(tmp_path, name, ROWS)).n_rows() == 7


def test_hash_is_that_of_the_file(tmp_path):
    path = written(tmp_path, "rows.jsonl", ROWS)
    assert file_rows(path).data_hash() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_places_hold_no_folder(tmp_path):
    place, _ = next(file_rows(written(tmp_path, "rows.jsonl", ROWS)).read())
    assert str(tmp_path) not in place


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text()), max_size=8))
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    path.write_bytes(lines(rows))
    assert [row for _, row in file_rows(path).read()] == rows


def test_line_separators_of_unicode_end_no_line(tmp_path):
    rows = [{"prompt": "a\u2028b\u2029c\x85d"}]
    assert [row for _, row in file_rows(written(tmp_path, "rows.jsonl", rows)).read()] == rows


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n  \n{"a": 2}')
    assert [place for place, _ in file_rows(path).read()] == ["rows.jsonl:1", "rows.jsonl:4"]
    assert list(file_rows(path).read(1)) == [("rows.jsonl:4", {"a": 2})]
    assert file_rows(path).n_rows() == 2


def test_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert [row for _, row in file_rows(path).read()] == [{"a": 1}]


def test_lone_surrogates_become_replacement_characters(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": ["x\\ud800y", {"b": "\\ud83d\\ude00"}]}\n')
    assert [row for _, row in file_rows(path).read()] == [{"a": ["x\ufffdy", {"b": "😀"}]}]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"a": "\xe9"}', "rows.jsonl:2: not UTF-8"),
        (b'{"a": ', "rows.jsonl:2: not JSON"),
        (b"[1, 2]", "rows.jsonl:2: expected an object, found a list: one JSON list"),
        (b'"text"', "rows.jsonl:2: expected an object, found text"),
        (b"null", "rows.jsonl:2: expected an object, found null"),
        (b"[" * 100_000, "rows.jsonl:2: not JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, complaint):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=complaint):
        list(file_rows(path).read())


def test_torn_gzip_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    noise = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(2_000))
    path.write_bytes(gzip.compress(lines([{"a": noise}]))[:-200])
    with pytest.raises(DataError, match="not a whole gzip file"):
        list(file_rows(path).read())


def test_file_that_is_not_packed_is_named(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(DataError, match=r"take \.gz off its name"):
        list(file_rows(path).read())


def test_broken_parquet_is_named(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a Parquet file"):
        list(file_rows(path).read())


def test_unknown_format_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    with pytest.raises(ConfigError, match=r"\.jsonl"):
        file_rows(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"rows\.jsonl' does not exist"):
        list(file_rows(tmp_path / "rows.jsonl").read())


# --- the hub ----------------------------------------------------------------------------------

REVISION = "0" * 40


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("hub:owner/name", "owner/name/train"),
        ("hub:owner/na-me.1/test", "owner/na-me.1/test"),
        ("hub:owner/name@v1.0/test", "owner/name/test"),
        ("hub:owner/name@main/data/python/data.jsonl", "owner/name/data/python/data.jsonl"),
    ],
)
def test_hub_names_have_revision_and_part(spec, name):
    assert hub_rows(spec).name == name


@pytest.mark.parametrize("spec", ["hub:", "hub:name", "hub:a b/c", "hub:owner/name@"])
def test_hub_names_of_another_form_are_refused(spec):
    with pytest.raises(ConfigError, match="hub:OWNER/NAME"):
        hub_rows(spec)


def test_full_revision_is_the_hash(tmp_path):
    assert hub_rows(f"hub:owner/name@{REVISION}").data_hash() == REVISION


def test_hub_that_cannot_be_reached_says_what_to_do(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install datasets")

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(MissingDataError, match=r"'owner/name'.*download its files"):
        list(hub_rows("hub:owner/name").read())


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """`datasets` reads a folder of the data set's name as it reads the hub."""
    pytest.importorskip("datasets", reason="needs datasets: pip install datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    written(tmp_path / "owner" / "name", "train.jsonl", ROWS)
    return tmp_path


def test_data_set_is_streamed_from_any_row(local_hub):
    rows = hub_rows("hub:owner/name")
    assert [row for _, row in rows.read()] == ROWS
    assert list(rows.read(5)) == list(rows.read())[5:]
    assert next(iter(rows.read(5)))[0] == "owner/name/train:6"


def test_split_that_is_not_there_is_named(local_hub):
    with pytest.raises(DataError, match="nowhere"):
        list(hub_rows("hub:owner/name/nowhere").read())
