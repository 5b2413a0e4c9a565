"""Files of generations as streams: equal to the JSON library, and a place for every complaint."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import GenerationsError, MissingDataError
from astraios.evaluation import generations_file
from astraios.evaluation.generations_file import Shape, line_items, list_items, shape

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
files = st.lists(st.lists(values, max_size=4) | st.none() | st.integers(), max_size=6)


def read(path):
    found = []
    for number, place, value in list_items(path):
        if place is None:
            found.append([])
        elif place < 0:
            found.append(value)
        else:
            found[number].append(value)
    return found


def write(folder, content, name="file.json"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@given(content=files, indent=st.sampled_from([None, 1]), ascii_=st.booleans())
def test_lists_are_read_as_the_json_library_reads_them(folder, chunk, content, indent, ascii_):
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_)
    path = write(folder, text.encode("utf-8", "replace"))
    expected = json.loads(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations_file, "CHUNK", chunk)
        assert read(path) == expected


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@given(text=st.text(alphabet='[]{},:"\\ntrue01.-u \n', max_size=40))
def test_what_the_json_library_refuses_is_refused(folder, chunk, text):
    content = "[" + text
    path = write(folder, content)
    try:
        expected = json.loads(content)
    except ValueError:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations_file, "CHUNK", chunk)
        if expected is None:
            with pytest.raises(GenerationsError, match=r"file\.json:\d+:\d+: not JSON"):
                read(path)
        else:
            assert read(path) == expected


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_gzip_is_known_by_its_first_bytes(tmp_path, pack):
    assert read(write(tmp_path, pack(b'[["a"]]'))) == [["a"]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [('[["a"]]', Shape.LISTS), (" \n[\n", Shape.LISTS), ('{"a": 1}\n', Shape.LINES)],
)
def test_the_first_character_tells_the_shape(tmp_path, content, expected):
    assert shape(write(tmp_path, content)) is expected


@pytest.mark.parametrize("content", ["", " \n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(GenerationsError, match="the file is empty"):
        shape(write(tmp_path, content))


@pytest.mark.parametrize("content", ["hello", '"text"', "3"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    with pytest.raises(GenerationsError, match="expected a JSON list with one list of texts"):
        shape(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[["a",\n  "b" "c"]]', r"file\.json:2:7: not JSON: expected ','"),
        ('[["a"], [\n"b"', r"file\.json:2:4: not JSON: the file ends in the middle"),
        ('[["a"]] x', r"file\.json:1:9: not JSON: more text"),
        ('[["a"],]', r"file\.json:1:8: not JSON: Expecting value"),
        ('[["\\x"]]', r"file\.json:1:4: not JSON: Invalid"),
        ("[" + "[" * 100_000, "nested too deeply"),
        (b'[["\xff"]]', "not UTF-8"),
        (gzip.compress(b'[["a"]]' * 99, mtime=0)[:-12], "gzip data are broken"),
        (b"\x1f\x8bnonsense", "gzip data are broken"),
    ],
)
def test_broken_lists_are_refused_with_their_place(tmp_path, content, complaint):
    with pytest.raises(GenerationsError, match=complaint):
        read(write(tmp_path, content))


def test_a_text_without_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(generations_file, "LONGEST_TEXT", 1000)
    monkeypatch.setattr(generations_file, "CHUNK", 100)
    with pytest.raises(GenerationsError, match="no program is that long"):
        read(write(tmp_path, '[["' + "x" * 100_000))


def test_lines_come_with_their_numbers(tmp_path):
    content = '\ufeff{"a": "\u2028"}\n\n{"b": 2}'
    assert list(line_items(write(tmp_path, content))) == [(1, {"a": "\u2028"}), (3, {"b": 2})]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": 1}\n{"b": ', r"file\.json:2: the last line is cut off"),
        ('{"a": 1}\n{"b": }\n', r"file\.json:2:7: not JSON"),
        ('{"a": 1}\n[2]\n', r"file\.json:2: expected a JSON object, found a list"),
        ('{\n "a": 1\n}\n', r"file\.json:1:3: not JSON"),
        (b'{"a": "\xff"}\n', r"file\.json:1: not JSON"),
    ],
)
def test_broken_lines_are_refused_with_their_place(tmp_path, content, complaint):
    with pytest.raises(GenerationsError, match=complaint):
        list(line_items(write(tmp_path, content)))


def test_a_file_that_is_not_there_is_missing_data(tmp_path):
    with pytest.raises(MissingDataError, match="does not exist"):
        shape(tmp_path / "nowhere.json")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(MissingDataError, match="is a folder"):
        shape(tmp_path)
