"""Rows of CommitPack, and the records that are made of them."""

from __future__ import annotations

import pytest

from astraios.data.rules.commits import Commit, joined
from astraios.errors import DataError
from astraios.records import InstructionRecord

from .commit_cases import BASE, SHA, commit


def test_row_may_have_more_columns() -> None:
    assert Commit.of({**BASE, "returncode": 0, "stderr": None}, "here") == commit()


def test_missing_columns_are_named_with_place_and_columns_there() -> None:
    row = {name: value for name, value in BASE.items() if name not in ("lang", "repos")}
    with pytest.raises(DataError) as complaint:
        Commit.of(row, "part.jsonl:7")
    told = str(complaint.value)
    assert told.startswith("part.jsonl:7: a commit lacks the columns 'lang', 'repos'; ")
    assert told.endswith("'message', 'license'")


def test_missing_licence_column_is_not_taken_for_an_unknown_licence() -> None:
    row = {name: value for name, value in BASE.items() if name != "license"}
    with pytest.raises(DataError, match="'license'"):
        Commit.of(row, "here")


def test_null_licence_is_none() -> None:
    assert Commit.of({**BASE, "license": None}, "here").license == "none"


@pytest.mark.parametrize("name", [name for name in BASE if name != "license"])
def test_column_of_a_wrong_type_is_named(name: str) -> None:
    with pytest.raises(DataError, match=f"part.jsonl:7: column '{name}' is NoneType"):
        Commit.of({**BASE, name: None}, "part.jsonl:7")


@pytest.mark.parametrize("n_files", ["1", True, 1.0])
def test_number_of_files_has_to_be_whole(n_files: object) -> None:
    with pytest.raises(DataError, match="n_files"):
        Commit.of({**BASE, "n_files": n_files}, "here")


def test_number_of_files_is_read_where_there_is_one() -> None:
    assert Commit.of({**BASE, "n_files": 3}, "here").n_files == 3


def test_commit_without_a_hash_is_refused() -> None:
    with pytest.raises(DataError, match="'commit' is empty"):
        Commit.of({**BASE, "commit": " "}, "here")


def test_subject_and_old_file_ask_for_the_new_file() -> None:
    row = commit(subject="Fix it", old_contents="a\nb\n", new_contents="c\n")
    assert joined(row) == InstructionRecord(
        id=f"{SHA}:src/reader.py",
        instruction="Fix it\na\nb\n",
        response="c\n",
        source="commits",
        language="python",
    )


def test_created_file_is_asked_for_by_the_subject_and_an_empty_line() -> None:
    assert joined(commit(subject="Add it", old_contents="")).instruction == "Add it\n"
