"""One writer a run folder, whatever the file system; a dead one never blocks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from astraios import locks
from astraios.errors import LockedRunError, StorageError
from astraios.locks import Lock

HOLDER = """
import sys
from pathlib import Path
from astraios.locks import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""

WITHOUT_FLOCK = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
"""


@pytest.fixture(params=["flock", "no flock"])
def program(request, monkeypatch):
    """A program that holds the lock of a folder; here, too, flock works or does not."""
    if request.param == "flock":
        return HOLDER

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    return WITHOUT_FLOCK + HOLDER


def holder(program, folder):
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "held\n"
    return child


def test_second_writer_is_told_process_host_and_age_of_the_first(tmp_path, program):
    with holder(program, tmp_path) as child:
        with pytest.raises(LockedRunError) as refused:
            Lock(tmp_path)
        child.communicate("go")
    told = str(refused.value)
    assert f"is being written by process {child.pid} on {platform.node()}, " in told
    assert "which has held its lock for " in told
    assert str(tmp_path) in told


def test_lock_of_a_killed_process_is_free(tmp_path, program):
    with holder(program, tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        Lock(tmp_path).release()


def test_lock_is_free_after_its_release(tmp_path, program):
    for _ in range(20):
        lock = Lock(tmp_path)
        with pytest.raises(LockedRunError):
            Lock(tmp_path)
        lock.release()
        lock.release()
    assert len(list(tmp_path.iterdir())) <= 1 + locks.KEPT


def test_file_left_by_a_process_of_another_host_does_not_block(tmp_path):
    left = {"process": 1, "host": "elsewhere", "since": "2020-01-01T00:00:00Z"}
    (tmp_path / ".lock").write_text(json.dumps(left))
    Lock(tmp_path).release()


@pytest.mark.parametrize(
    "content", [b"", b"process 7 since 2026", b"[]", b"\xff", b'{"process":1}']
)
def test_file_of_another_version_is_no_obstacle_to_refusing(tmp_path, content):
    with (tmp_path / ".lock").open("wb+") as file:
        file.write(content)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedRunError, match=r"is being written by (another )?process"):
            Lock(tmp_path)


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(seconds=5), "5 s"),
        (timedelta(minutes=2, seconds=9), "2 min 9 s"),
        (timedelta(hours=3, minutes=12, seconds=40), "3 h 12 min"),
        (timedelta(days=2, hours=1), "2 d 1 h"),
    ],
)
def test_age_is_told_in_two_units(tmp_path, ago, said, monkeypatch):
    now = datetime(2026, 1, 10, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr(locks, "datetime", Clock)
    with (tmp_path / ".lock").open("wb+") as file:
        since = (now - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(json.dumps({"process": 7, "host": "node7", "since": since}).encode())
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedRunError, match=f"process 7 on node7, .* for {said};"):
            Lock(tmp_path)


# --- without flock ----------------------------------------------------------------------------


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)


def beat(folder, silent_s, host="node7"):
    path = folder / ".lock.beat-1"
    path.write_text(json.dumps({"process": 7, "host": host, "since": "2026-01-01T00:00:00Z"}))
    then = path.stat().st_mtime - silent_s
    os.utime(path, (then, then))


def test_holder_that_was_alive_lately_is_believed(tmp_path, no_flock):
    beat(tmp_path, 20)
    with pytest.raises(LockedRunError, match=r"process 7 on node7.*was alive 2\d s ago"):
        Lock(tmp_path)


def test_holder_that_has_been_silent_for_long_is_taken_to_be_dead(tmp_path, no_flock):
    beat(tmp_path, 3 * locks.STALE_S)
    lock = Lock(tmp_path)
    with pytest.raises(LockedRunError, match=f"process {os.getpid()} "):
        Lock(tmp_path)
    lock.release()


def test_holder_gives_signs_of_life(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_S", 0.01)
    lock = Lock(tmp_path)
    path = tmp_path / ".lock.beat-1"
    os.utime(path, (1, 1))
    waited = threading.Event()
    for _ in range(500):
        if path.stat().st_mtime > 1:
            break
        waited.wait(0.01)
    assert path.stat().st_mtime > 1
    lock.release()


@pytest.mark.parametrize("times", range(5))
def test_of_many_that_find_a_dead_holder_one_gets_the_lock(tmp_path, no_flock, times):
    beat(tmp_path, 3 * locks.STALE_S)
    got, refused = at_once(8, lambda: Lock(tmp_path))
    assert len(got) == 1 and len(refused) == 7
    got[0].release()


def test_lock_that_changes_hands_often_has_one_holder_at_a_time(tmp_path, no_flock):
    inside, most = [], []

    def take_turns():
        for _ in range(30):
            try:
                lock = Lock(tmp_path)
            except LockedRunError:
                continue
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            lock.release()

    at_once(8, take_turns)
    assert max(most) == 1


def test_number_that_was_used_meanwhile_is_given_up(tmp_path, no_flock, monkeypatch):
    beat(tmp_path, 3 * locks.STALE_S)
    held, opened = [], os.open

    def late(path, flags, *mode, **more):
        if str(path).endswith(".lock.beat-2") and not held:  # others come and go before this one
            held.append(None)
            for _ in range(locks.KEPT + 2):
                Lock(tmp_path).release()
            held[0] = Lock(tmp_path)
        return opened(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(LockedRunError, match=f"process {os.getpid()} "):
        Lock(tmp_path)
    held[0].release()


def test_another_error_of_the_file_system_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        Lock(tmp_path)


def at_once(count, act):
    """What `count` threads that begin together got, and how they were refused."""
    got, refused = [], []
    begin = threading.Barrier(count)

    def run():
        begin.wait()
        try:
            got.append(act())
        except LockedRunError as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got, refused
