"""Failures are written down where every machine can read them, until the job is done."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from cheap_jobs import fill, job, setting

from astraios.errors import StorageError
from astraios.files import read_records
from astraios.records import JobFailure
from astraios.studies import failures


def test_the_last_failure_of_a_job_counts(tmp_path):
    failures.note(tmp_path, "a", "first")
    failures.note(tmp_path, "b", "other")
    failures.note(tmp_path, "a", "second")
    assert {name: one.message for name, one in failures.read(tmp_path).items()} == {
        "a": "second",
        "b": "other",
    }
    assert len(list(read_records(tmp_path / "failures.jsonl", JobFailure))) == 3


def test_a_job_that_was_done_since_has_not_failed(tmp_path):
    for name in ("a", "b"):
        failures.note(tmp_path, name, "no")
    fill(job("a"), setting(tmp_path), lambda *told: None, None)
    assert list(failures.read(tmp_path)) == ["b"]
    failures.forget(tmp_path)
    assert [one.job for one in read_records(tmp_path / "failures.jsonl", JobFailure)] == ["b"]
    fill(job("b"), setting(tmp_path), lambda *told: None, None)
    failures.forget(tmp_path)
    assert not (tmp_path / "failures.jsonl").exists()
    failures.forget(tmp_path)


def test_a_failure_names_no_machine(tmp_path):
    host = platform.node()
    failures.note(
        tmp_path,
        "a",
        f"{tmp_path}/train/x is written on {host}, process 7; see {Path.home()}/.cache/y",
    )
    text = (tmp_path / "failures.jsonl").read_text()
    assert str(tmp_path) not in text and f" {host}," not in text
    assert "./train/x" in text and "this machine, process 7" in text
    assert str(Path.home()) == "/" or f"{Path.home()}/" not in text


def test_torn_lines_do_not_count(tmp_path):
    failures.note(tmp_path, "a", "no")
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write('{"job": "b", "mess')
    assert list(failures.read(tmp_path)) == ["a"]
    failures.note(tmp_path, "c", "no")
    assert list(failures.read(tmp_path)) == ["a", "c"]


def test_many_processes_write_down_all_of_theirs(tmp_path):
    program = """
import sys
from pathlib import Path
from astraios.studies import failures
for n in range(20):
    failures.note(Path(sys.argv[1]), f"{sys.argv[2]}-{n}", "no" * 500)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(failures.read(tmp_path)) == 40


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        failures.note(tmp_path / "file" / "study", "a", "no")
