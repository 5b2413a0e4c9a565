"""Single files and folders are replaced as a whole, whatever goes wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.config import Config
from astraios.errors import StorageError
from astraios.files import (
    Writer,
    fill_folder,
    make_folder,
    read_records,
    write_bytes,
    write_json,
    write_text,
)
from astraios.records import RunKind, Sample
from astraios.runs import Run

AS_ROOT = os.geteuid() == 0
not_root = pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")


def sample(index, completion="x"):
    return Sample(problem_id="p", index=index, prompt_sha="0", completion=completion, finish="eos")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole files ------------------------------------------------------------------------------


def test_file_and_its_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()


def test_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_file_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_records_inside_json_are_written_as_their_fields(tmp_path):
    write_json(tmp_path / "a.json", {"samples": (sample(0),)})
    assert '"problem_id": "p"' in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_failed_write_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch, code, message):
    write_text(tmp_path / "a.txt", "old")

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=rf"cannot write '.*a\.txt': {message}"):
        write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_file_in_the_place_of_a_folder_is_named(tmp_path):
    write_text(tmp_path / "a", "x")
    with pytest.raises(StorageError, match="a file of that name is in the way"):
        make_folder(tmp_path / "a")
    with pytest.raises(StorageError, match="a part of the path is no folder"):
        make_folder(tmp_path / "a" / "b")


@not_root
def test_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission; choose another --out folder"):
        Run.open(tmp_path / "a", kind=RunKind.TRAIN, config=Config())


@not_root
def test_file_without_permission_is_named(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.touch(mode=0)
    with pytest.raises(StorageError, match=r"cannot read '.*samples\.jsonl'"):
        list(read_records(path, Sample))


# --- full disks -------------------------------------------------------------------------------


@contextlib.contextmanager
def largest_file(n_bytes):
    """No file grows beyond `n_bytes`: the kernel takes a part of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@given(room=st.integers(0, 400))
def test_append_that_does_not_fit_leaves_no_part_of_it(tmp_path_factory, room):
    path = tmp_path_factory.mktemp("full") / "samples.jsonl"
    with Writer(path) as writer:
        writer.append(sample(0))
        size = path.stat().st_size
        with largest_file(size + room), pytest.raises(StorageError, match="cannot write"):
            writer.append(sample(1, "x" * 200), sample(2, "x" * 200))
        assert path.stat().st_size == size
        writer.append(sample(3))
    assert [record.index for record in read_records(path, Sample)] == [0, 3]


def test_run_on_a_full_disk_closes_gives_its_lock_back_and_goes_on(tmp_path):
    with (
        pytest.raises(StorageError),
        Run.open(tmp_path, kind=RunKind.TRAIN, config=Config()) as run,
    ):
        run.append("samples", sample(0))
        with largest_file((tmp_path / "samples.jsonl").stat().st_size + 10):
            run.append("samples", sample(1))
    with Run.open(tmp_path, kind=RunKind.TRAIN, config=Config()) as run:
        run.append("samples", sample(1))
        assert [record.index for record in run.read("samples", Sample)] == [0, 1]


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_up_loses_nothing_that_was_appended(small_disk):
    run = Run.open(small_disk / "a", kind=RunKind.TRAIN, config=Config())
    n_written = 0
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        while True:
            run.append("samples", sample(n_written, "x" * 999))
            n_written += 1
    run.close()
    kept = [record.index for record in read_records(small_disk / "a" / "samples.jsonl", Sample)]
    assert kept == list(range(n_written))


# --- folders ----------------------------------------------------------------------------------


def test_filled_folder_appears_with_all_its_files(tmp_path):
    with fill_folder(tmp_path / "adapter") as scratch:
        (scratch / "one").write_text("1")
        assert not (tmp_path / "adapter").exists()
        (scratch / "two").write_text("2")
    assert names(tmp_path / "adapter") == ["one", "two"]
    assert names(tmp_path) == ["adapter"]


def test_filled_folder_replaces_the_old_one(tmp_path):
    for name in ("old", "new"):
        with fill_folder(tmp_path / "adapter") as scratch:
            (scratch / name).touch()
    assert names(tmp_path / "adapter") == ["new"]
    assert names(tmp_path) == ["adapter"]


def test_filled_folder_can_be_read_by_others(tmp_path):
    with fill_folder(tmp_path / "adapter"):
        pass
    assert (tmp_path / "adapter").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_while_filling_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    with fill_folder(tmp_path / "adapter") as scratch:
        (scratch / "old").touch()
    with pytest.raises(error), fill_folder(tmp_path / "adapter") as scratch:
        (scratch / "new").touch()
        raise error
    assert names(tmp_path / "adapter") == ["old"]
    assert names(tmp_path) == ["adapter"]


def test_full_disk_while_filling_is_a_storage_error(tmp_path):
    refused = pytest.raises(StorageError, match=r"adapter': the disk is full")
    with refused, fill_folder(tmp_path / "adapter"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_kill_while_filling_leaves_the_old_folder(tmp_path):
    program = """
import sys
from pathlib import Path
from astraios.files import fill_folder
with fill_folder(Path(sys.argv[1])) as scratch:
    (scratch / "new").touch()
    print("filled", flush=True)
    sys.stdin.readline()
"""
    target = tmp_path / "adapter"
    with fill_folder(target) as scratch:
        (scratch / "old").touch()
    with subprocess.Popen(
        [sys.executable, "-c", program, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert names(target) == ["old"]
    with fill_folder(target) as scratch:
        (scratch / "newer").touch()
    assert names(target) == ["newer"]
