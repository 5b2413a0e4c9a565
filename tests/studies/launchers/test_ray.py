"""The launcher `ray` on real clusters of several processes: nodes that vanish, drivers that die."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from cheap_jobs import fill, grid, job, records, setting

pytest.importorskip("ray", reason="needs ray: pip install 'astraios[ray]'")

HERE = Path(__file__).parent

# Each test is a program of its own: Ray keeps threads and connections in the process that used it.
HEAD = f"""
import os, signal, sys, time, warnings
warnings.simplefilter("error")
sys.path.insert(0, {str(HERE)!r})
os.environ["PYTHONPATH"] = {str(HERE)!r}
from pathlib import Path
from cheap_jobs import ended, fill, grid, job, records, setting
from astraios.studies.launchers import Phase
from astraios.studies.launchers.ray import Options, launcher
root = Path(sys.argv[1])
events = []
def watch(event):
    events.append(event)
    if event.phase is not Phase.PROGRESS:
        print(event.phase, event.job.id, event.note.replace("\\n", " "), flush=True)
"""


def program(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(HEAD + textwrap.dedent(text))
    return [sys.executable, str(path), str(tmp_path / "study")]


def run(tmp_path, text):
    done = subprocess.run(program(tmp_path, text), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def undisturbed(tmp_path, jobs):
    root = tmp_path / "undisturbed"
    for one in jobs:
        fill(one, setting(root), lambda *told: None, None)
    return records(root, jobs)


def processes_of_ray():
    """Those that name themselves so."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = path.read_bytes()
        except OSError:
            continue
        if b"raylet" in told or b"gcs_server" in told or told.startswith(b"ray::"):
            found.add(int(path.parent.name))
    return found


def test_a_study_on_a_cluster_of_its_own(tmp_path):
    before = processes_of_ray()
    told = run(
        tmp_path,
        """
        jobs = [*grid(1), job("fails", ends="fails"), job("next", "fails")]
        launcher.launch(jobs, setting(root, Options(), n_workers=1), watch)
        found = ended(events)
        assert found.pop("fails") is Phase.FAILED and found.pop("next") is Phase.SKIPPED
        assert set(found.values()) == {Phase.DONE}, found
        """,
    )
    assert "no luck; try other luck" in told
    assert records(tmp_path / "study", grid(1)) == undisturbed(tmp_path, grid(1))
    assert processes_of_ray() <= before


@pytest.mark.slow
def test_a_job_whose_worker_is_lost_is_begun_again(tmp_path):
    told = run(
        tmp_path,
        """
        jobs = [*grid(2), job("lost", ends="killed-once"), job("starved", ends="starved-once"),
                job("stopped", ends="stopped-once"), job("dies", ends="killed")]
        launcher.launch(jobs, setting(root, Options(retries=1), n_workers=2), watch)
        found = ended(events)
        assert found.pop("dies") is Phase.FAILED
        assert set(found.values()) == {Phase.DONE}, found
        """,
    )
    assert "again lost its worker was lost" in told
    assert "again stopped its worker was lost" in told
    assert "again starved its worker was lost (it ran out of memory)" in told
    assert "failed dies its worker was lost 2 times, last because" in told
    jobs = [*grid(2), job("lost"), job("starved"), job("stopped")]
    assert records(tmp_path / "study", jobs) == undisturbed(tmp_path, jobs)


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_changes_no_record(tmp_path):
    told = run(
        tmp_path,
        """
        import ray
        from ray.cluster_utils import Cluster
        size = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=size)
        other = cluster.add_node(**size)
        ray.init(address=cluster.address, log_to_driver=False)
        killed = False
        def kill(event):
            global killed
            watch(event)
            # Both nodes are at work on the middle by the time that one of it is done.
            if event.phase is Phase.DONE and event.job.id.startswith("middle") and not killed:
                killed = True
                cluster.remove_node(other, allow_graceful=False)
        jobs = grid(12, n=20, every_s=0.02)
        launcher.launch(jobs, setting(root, Options()), kill)
        assert killed and set(ended(events).values()) == {Phase.DONE}
        assert any(event.phase is Phase.AGAIN for event in events)
        ray.shutdown()
        cluster.shutdown()
        """,
    )
    assert "its worker was lost" in told
    jobs = grid(12, n=20, every_s=0.02)
    assert records(tmp_path / "study", jobs) == undisturbed(tmp_path, grid(12, n=20))


STUDY = """
jobs = grid(6, n=20, every_s=0.03)
launcher.launch(jobs, setting(root, Options(address=os.environ.get("H")), n_workers=2), watch)
"""


@pytest.mark.slow
def test_a_driver_that_was_killed_comes_back(tmp_path):
    command = program(tmp_path, STUDY)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("done middle"):
                break
        process.send_signal(signal.SIGKILL)
    run(tmp_path, STUDY)
    jobs = grid(6, n=20)
    assert records(tmp_path / "study", jobs) == undisturbed(tmp_path, jobs)


@pytest.mark.slow
def test_sigint_stops_the_workers(tmp_path):
    before = processes_of_ray()
    command = program(
        tmp_path, "jobs = [job('long', n=100000, every_s=0.01)]\n" + STUDY.split("\n", 2)[2]
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            if line.startswith("started"):
                break
        deadline = time.monotonic() + 60
        while not (tmp_path / "study/long/notes.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        p.send_signal(signal.SIGINT)
        _, told = p.communicate(timeout=90)
    assert "KeyboardInterrupt" in told
    assert processes_of_ray() <= before


@pytest.mark.slow
def test_what_no_node_can_hold_fails_and_says_so(tmp_path):
    told = run(
        tmp_path,
        """
        made = setting(root, Options(patience_s=0), n_workers=1, max_memory_mib=300)
        launcher.launch([job("large")], made, watch)
        """,
    )
    assert "failed large no node of the cluster has 448 MiB of memory, 0 GPUs and 1 CPUs" in told


def test_a_cluster_that_is_not_there_is_told_of(tmp_path):
    told = run(
        tmp_path,
        """
        from astraios.errors import WorkError
        try:
            launcher.launch([job("a")], setting(root, Options(address="127.0.0.1:1")), watch)
        except WorkError as error:
            print(error)
        """,
    )
    assert "no Ray cluster could be reached at '127.0.0.1:1'" in told


def test_without_ray_the_remedy_is_told(tmp_path, monkeypatch):
    from astraios.errors import MissingToolError
    from astraios.studies.launchers import ray as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'astraios\[ray\]'"):
        module.launcher.launch([job("a")], setting(tmp_path, module.Options()), print)
