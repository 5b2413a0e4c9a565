"""Run folders: what a kill, a full disk, another process or another config leaves of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model

from astraios.config import OPERATIONAL, Config
from astraios.errors import (
    DataError,
    ForeignRunError,
    LockedRunError,
    MissingDataError,
    RunError,
    UnfinishedRunError,
)
from astraios.files import Writer, read_records
from astraios.records import Manifest, Record, RunKind, Step
from astraios.runs import Run, find_runs, is_done, read_manifest, read_run


class Plan(Config):
    n_steps: int = 1
    seed: int = 0
    n_workers: int = Field(default=1, json_schema_extra=OPERATIONAL)


class Note(Record):
    key: int
    text: str = ""


def open_run(folder, config=None, **more):
    return Run.open(folder, kind=RunKind.TRAIN, config=config or Plan(), **more)


def sealed_run(folder, *notes):
    with open_run(folder) as run:
        run.append("notes", *notes)
        run.seal(counts={"n_notes": len(notes)})
    return folder


def edit_manifest(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def python(program, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


# --- the life of a run ------------------------------------------------------------------------


def test_new_run_says_what_made_it(tmp_path):
    with open_run(tmp_path / "a", Plan(seed=3), inputs={"base": "b"}, environment={"device": "x"}):
        manifest = read_manifest(tmp_path / "a")
    assert manifest.run_id == "a"
    assert manifest.status == "running"
    assert manifest.config == {"n_steps": 1, "seed": 3, "n_workers": 1}
    assert manifest.inputs == {"base": "b"}
    assert manifest.environment["device"] == "x"
    assert manifest.environment["python"]


def test_manifest_holds_no_absolute_path_and_no_names_of_the_machine(tmp_path):
    sealed_run(tmp_path / "a")
    text = (tmp_path / "a" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert os.uname().nodename not in text


def test_run_in_the_current_folder_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with open_run(Path()) as run:
        assert run.manifest.run_id == "here"


def test_sealed_run_is_done_and_holds_its_counts(tmp_path):
    run = read_run(sealed_run(tmp_path / "a", Note(key=1)))
    assert run.done
    assert run.manifest.counts == {"n_notes": 1}
    assert run.manifest.finished


def test_records_come_back_in_order(tmp_path):
    notes = [Note(key=n, text="x" * n) for n in range(50)]
    run = read_run(sealed_run(tmp_path / "a", *notes))
    assert list(run.read("notes", Note)) == notes


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_no_character_inside_a_record_ends_its_line(tmp_path, mark):
    notes = [Note(key=1, text=f"a{mark}b"), Note(key=2, text=mark)]
    run = read_run(sealed_run(tmp_path / "a", *notes))
    assert list(run.read("notes", Note)) == notes


def test_files_of_many_workers_are_read_as_one(tmp_path):
    folder = sealed_run(tmp_path / "a", Note(key=0))
    for worker in (1, 2):
        with Writer(folder / f"notes-{worker}.jsonl") as writer:
            writer.append(Note(key=worker))
    assert [note.key for note in read_run(folder).read("notes", Note)] == [0, 1, 2]


def test_run_can_be_moved(tmp_path):
    sealed_run(tmp_path / "a", Note(key=1)).rename(tmp_path / "b")
    assert list(read_run(tmp_path / "b").read("notes", Note)) == [Note(key=1)]


def test_records_that_are_not_there_are_no_error(tmp_path):
    assert list(read_run(sealed_run(tmp_path / "a")).read("other", Note)) == []


# --- resuming ---------------------------------------------------------------------------------


def test_unfinished_run_goes_on_where_it_was(tmp_path):
    with open_run(tmp_path / "a") as run:
        run.append("notes", Note(key=1), Note(key=2))
    with open_run(tmp_path / "a") as run:
        assert run.keys("notes", Note, lambda note: note.key) == {1, 2}
        run.append("notes", Note(key=3))
        run.seal()
    assert [note.key for note in read_run(tmp_path / "a").read("notes", Note)] == [1, 2, 3]


def test_resumed_run_keeps_its_first_manifest(tmp_path):
    with open_run(tmp_path / "a"):
        edit_manifest(tmp_path / "a", started="2000-01-01T00:00:00Z")
    with open_run(tmp_path / "a") as run:
        run.seal()
    assert read_manifest(tmp_path / "a").started == "2000-01-01T00:00:00Z"


def test_operational_fields_may_change_between_attempts(tmp_path):
    with open_run(tmp_path / "a", Plan(n_workers=1)) as run:
        run.append("notes", Note(key=1))
    with open_run(tmp_path / "a", Plan(n_workers=8)) as run:
        assert list(run.read("notes", Note)) == [Note(key=1)]


@given(cut=st.integers(0, 10**6), texts=st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_record_torn_anywhere_is_dropped_and_written_again(cut, texts):
    notes = [Note(key=key, text=text) for key, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "notes.jsonl")
        with Writer(path) as writer:
            writer.append(*notes)
        whole = path.read_bytes()
        path.write_bytes(whole[: cut % (len(whole) + 1)])

        kept = list(read_records(path, Note))
        assert kept == notes[: len(kept)]
        with Writer(path) as writer:
            writer.append(*notes[len(kept) :])
        assert path.read_bytes() == whole


def test_torn_line_longer_than_a_read_is_cut(tmp_path):
    path = tmp_path / "notes.jsonl"
    whole = Note(key=1).model_dump_json().encode() + b"\n"
    path.write_bytes(whole + b'{"key": 2, "text": "' + b"x" * 200_000)
    Writer(path).close()
    assert path.read_bytes() == whole


def test_file_that_is_one_torn_line_is_emptied(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"x" * 200_000)
    Writer(path).close()
    assert path.read_bytes() == b""


def test_killed_writer_leaves_whole_records_and_a_free_lock(tmp_path):
    program = """
import sys
from pathlib import Path
from astraios.config import Config
from astraios.records import RunKind, Step
from astraios.runs import Run
run = Run.open(Path(sys.argv[1]), kind=RunKind.TRAIN, config=Config())
step = 0
while True:
    run.append("steps", Step(step=step))
    step += 1
    if step == 20:
        print("far enough", flush=True)
"""
    with python(program, tmp_path / "a") as child:
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    with open_run(tmp_path / "a", Config()) as run:
        steps = [step.step for step in run.read("steps", Step)]
        run.append("steps", Step(step=len(steps)))
        run.seal()
    assert len(steps) >= 20
    resumed = [step.step for step in read_run(tmp_path / "a").read("steps", Step)]
    assert resumed == list(range(len(steps) + 1))


def test_rewriting_replaces_the_records_and_appending_goes_on(tmp_path):
    with open_run(tmp_path / "a") as run:
        run.append("notes", Note(key=1), Note(key=2))
        run.rewrite("notes", [Note(key=2)])
        run.append("notes", Note(key=3))
        assert [note.key for note in run.read("notes", Note)] == [2, 3]


# --- another's run ----------------------------------------------------------------------------


def test_other_config_is_refused_with_the_fields_that_differ(tmp_path):
    sealed_run(tmp_path / "a")
    with pytest.raises(ForeignRunError, match=r"another config \(n_steps: 1 -> 5\)"):
        open_run(tmp_path / "a", Plan(n_steps=5))


def test_many_fields_that_differ_are_named_from_the_first_and_counted(tmp_path):
    fields = ["task", *(f"a{n:02}" for n in range(14))]
    wide = create_model("Wide", **dict.fromkeys(fields, (int, 0)))
    open_run(tmp_path / "a", wide()).close()
    with pytest.raises(ForeignRunError, match=r"\(task: 0 -> 1; a00: .*a10: .*; and 3 more fields"):
        open_run(tmp_path / "a", wide(**dict.fromkeys(fields, 1)))


def test_other_kind_is_refused(tmp_path):
    sealed_run(tmp_path / "a")
    with pytest.raises(ForeignRunError, match="it is a train run, not a judge run"):
        Run.open(tmp_path / "a", kind=RunKind.JUDGE, config=Plan())


@pytest.mark.parametrize("inputs", [{"base": "new"}, {}, {"base": "old", "data": "x"}])
def test_other_inputs_are_refused(tmp_path, inputs):
    open_run(tmp_path / "a", inputs={"base": "old"}).close()
    with pytest.raises(ForeignRunError, match=r"made from other inputs \((base|data)\)"):
        open_run(tmp_path / "a", inputs=inputs)


def test_refused_run_is_left_as_it_was(tmp_path):
    sealed_run(tmp_path / "a", Note(key=1))
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(ForeignRunError):
        open_run(tmp_path / "a", Plan(seed=9))
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_refused_run_is_not_left_locked(tmp_path):
    sealed_run(tmp_path / "a")
    with pytest.raises(ForeignRunError):
        open_run(tmp_path / "a", Plan(seed=9))
    open_run(tmp_path / "a").close()


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ForeignRunError, match=r"is not a run folder but holds 'thesis\.tex'"):
        open_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_hidden_files_are_no_reason_to_refuse(tmp_path):
    (tmp_path / ".DS_Store").touch()
    open_run(tmp_path).close()


def test_newer_format_is_refused_with_the_version_that_wrote_it(tmp_path):
    sealed_run(tmp_path / "a")
    edit_manifest(tmp_path / "a", format=99, code={"version": "7.0"}, unheard_of=1)
    with pytest.raises(DataError, match=r"run format 99 is newer .* by astraios 7\.0: upgrade"):
        open_run(tmp_path / "a")


@pytest.mark.parametrize("code", [None, "7.0", [], {}])
def test_newer_format_is_refused_whatever_else_it_changed(tmp_path, code):
    sealed_run(tmp_path / "a")
    edit_manifest(tmp_path / "a", format=99, code=code)
    with pytest.raises(DataError, match="run format 99 is newer"):
        read_manifest(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b"null"])
def test_damaged_manifest_is_refused_by_name(tmp_path, content):
    folder = sealed_run(tmp_path / "a")
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: not "):
        open_run(folder)


# --- locks ------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from astraios.config import Config
from astraios.records import RunKind
from astraios.runs import Run
with Run.open(Path(sys.argv[1]), kind=RunKind.TRAIN, config=Config()):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_run_that_another_process_writes_is_refused_with_its_number(tmp_path):
    with python(HOLDER, tmp_path / "a") as child:
        child.stdout.readline()
        with pytest.raises(LockedRunError, match=f"is being written by process {child.pid} "):
            open_run(tmp_path / "a", Config())
        child.communicate("go")
    open_run(tmp_path / "a", Config()).close()


def test_run_may_be_read_while_another_process_writes(tmp_path):
    with python(HOLDER, tmp_path / "a") as child:
        child.stdout.readline()
        assert not read_run(tmp_path / "a", unfinished=True).done
        child.communicate("go")


def test_same_process_cannot_write_a_run_twice(tmp_path):
    with open_run(tmp_path / "a"), pytest.raises(LockedRunError):
        open_run(tmp_path / "a")


def test_closed_run_is_free_although_a_forked_child_lives(tmp_path):
    # In a process of its own, because forking a test worker, which has threads, is not safe.
    program = """
import os, sys
from pathlib import Path
from astraios.config import Config
from astraios.records import RunKind
from astraios.runs import Run
run = Run.open(Path(sys.argv[1]), kind=RunKind.TRAIN, config=Config())
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
run.close()
print("closed", flush=True)
os.wait()
"""
    with python(program, tmp_path / "a") as child:
        child.stdout.readline()
        open_run(tmp_path / "a", Config()).close()
        child.communicate("go")


def test_closing_twice_is_harmless(tmp_path):
    run = open_run(tmp_path / "a")
    run.close()
    run.close()


def test_run_opened_for_reading_cannot_be_written(tmp_path):
    run = read_run(sealed_run(tmp_path / "a"))
    with pytest.raises(RunError, match="was opened for reading"):
        run.append("notes", Note(key=1))
    with pytest.raises(RunError, match="was opened for reading"):
        run.seal()


# --- reading ----------------------------------------------------------------------------------


def test_unfinished_run_is_read_only_when_asked_for(tmp_path):
    open_run(tmp_path / "a").close()
    with pytest.raises(UnfinishedRunError, match=r"is not finished \(status: running\)"):
        read_run(tmp_path / "a")
    assert not read_run(tmp_path / "a", unfinished=True).done


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"it has no manifest\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("line", ["nonsense", "", "{}", '{"key": 1, "more": 2}', '{"key": "x"}'])
def test_line_that_is_no_record_is_refused_with_its_number(tmp_path, line):
    path = tmp_path / "notes.jsonl"
    path.write_text(f'{{"key": 1}}\n{line}\n{{"key": 3}}\n')
    with pytest.raises(DataError, match=r"notes\.jsonl:2: not a Note record"):
        list(read_records(path, Note))


def test_only_a_sealed_run_of_the_config_is_done(tmp_path):
    assert not is_done(tmp_path / "a")
    open_run(tmp_path / "a").close()
    assert not is_done(tmp_path / "a")
    sealed_run(tmp_path / "a")
    assert is_done(tmp_path / "a")
    assert is_done(tmp_path / "a", Plan(n_workers=5))
    assert not is_done(tmp_path / "a", Plan(seed=5))


def test_finding_takes_sealed_runs_at_any_depth_in_path_order(tmp_path):
    sealed_run(tmp_path / "b" / "deep" / "er")
    sealed_run(tmp_path / "a")
    sealed_run(tmp_path / ".trash" / "c")
    open_run(tmp_path / "unfinished").close()
    assert [run.manifest.run_id for run in find_runs(tmp_path)] == ["a", "er"]
    assert len(find_runs(tmp_path, unfinished=True)) == 3


def test_finding_in_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="absent' is not a folder"):
        find_runs(tmp_path / "absent")


def test_manifest_on_disk_is_the_record(tmp_path):
    folder = sealed_run(tmp_path / "a")
    text = (folder / "manifest.json").read_text()
    assert Manifest.model_validate_json(text) == read_manifest(folder)
