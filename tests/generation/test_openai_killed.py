"""A run against a server, killed and taken up again: nothing is lost, nothing asked twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from astraios.generation.keys import key
from astraios.records import Finish, Sample
from astraios.runs import read_run

from .server import run
from .server.run import N_PROBLEMS, run_it
from .server.running import Running


def samples(done):
    return {key(sample): sample for sample in done.read("samples", Sample)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Running(tmp_path_factory.mktemp("server"), {"models": {"tiny": {}}}) as running:
        yield running


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills as POSIX does")
def test_a_killed_run_asks_the_missing_only_and_ends_as_if_nothing_was(server, tmp_path):
    server.control()
    whole = samples(run_it(server.url, tmp_path / "whole"))
    assert len(whole) == 4 * N_PROBLEMS
    server.control(delay_s=0.004)
    folder = tmp_path / "run"
    for n_wanted in (3, 14):
        child = subprocess.Popen([sys.executable, run.__file__, server.url, str(folder)])
        path = folder / "samples.jsonl"
        for _ in range(6000):
            if path.exists() and path.read_bytes().count(b"\n") >= n_wanted:
                break
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with path.open("ab") as torn:
        torn.write(b'{"problem_id": "minipack/')
    n_kept = path.read_bytes().count(b"\n")
    assert 14 <= n_kept < 4 * N_PROBLEMS
    server.control()
    assert samples(run_it(server.url, folder)) == whole
    asked = Counter(
        (request["body"]["prompt"], request["body"]["seed"]) for request in server.seen()
    )
    assert sum(asked.values()) == len(asked) == 4 * N_PROBLEMS - n_kept


def test_faults_are_recorded_and_asked_again(server, tmp_path):
    server.control()
    whole = samples(run_it(server.url, tmp_path / "whole"))
    first = server.seen()[0]["body"]["prompt"]
    server.control(bad={first: ["*500"]})
    broken = samples(run_it(server.url, tmp_path / "run", n_tries=1))
    faults = [name for name, sample in broken.items() if sample.finish is Finish.FAULT]
    assert len(faults) == 4
    assert {n: s for n, s in broken.items() if n not in faults} == {
        n: s for n, s in whole.items() if n not in faults
    }
    server.control()
    again = run_it(server.url, tmp_path / "run")
    assert samples(read_run(again.folder)) == whole
    assert len(server.seen()) == 4
