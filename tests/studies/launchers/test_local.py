"""The launcher `local`: processes that die, memory that is short, work that is stopped."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cheap_jobs import ended, fill, grid, job, note_devices, note_process, records, setting

from astraios.studies.launchers import NoOptions, Phase, local
from astraios.studies.launchers._room import Room
from astraios.studies.launchers.local import Options, launcher
from astraios.studies.needs import Needs

HERE = Path(__file__).parent


def launch(jobs, root, **fields):
    events = []
    fields = {"n_workers": 2, "options": Options(devices=()), **fields}
    launcher.launch(jobs, setting(root, **fields), events.append)
    return events


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the cheap study leaves when nothing happens."""
    root = tmp_path_factory.mktemp("undisturbed")
    for one in grid():
        fill(one, setting(root), lambda *told: None, None)
    return records(root, grid())


def test_all_jobs_are_done_and_told_of(tmp_path, undisturbed):
    jobs = grid()
    events = launch(jobs, tmp_path)
    assert set(ended(events).values()) == {Phase.DONE}
    assert records(tmp_path, jobs) == undisturbed
    started = [event.job.id for event in events if event.phase is Phase.STARTED]
    assert started[0] == "first" and started[-1] == "last" and len(started) == len(jobs)


def test_what_goes_wrong_stops_only_what_builds_on_it(tmp_path):
    jobs = [
        job("fails", ends="fails"),
        job("breaks", ends="breaks"),
        job("well"),
        job("after fails", "fails", "well"),
        job("after that", "after fails"),
        job("after well", "well"),
    ]
    events = launch(jobs, tmp_path, n_workers=1, options=NoOptions())
    assert ended(events) == {
        "fails": Phase.FAILED,
        "breaks": Phase.FAILED,
        "well": Phase.DONE,
        "after fails": Phase.SKIPPED,
        "after that": Phase.SKIPPED,
        "after well": Phase.DONE,
    }
    notes = {e.job.id: e.note for e in events if e.phase is Phase.FAILED}
    assert "no luck; try other luck" in notes["fails"]
    assert "Traceback" in notes["breaks"] and "a defect" in notes["breaks"]


def test_a_job_whose_worker_is_lost_is_begun_again_alone(tmp_path):
    jobs = [job("once", ends="killed-once"), job("always", ends="killed"), job("b"), job("c")]
    events = launch(jobs, tmp_path)
    again = [event.job.id for event in events if event.phase is Phase.AGAIN]
    assert sorted(again) == ["always", "once"]
    found = ended(events)
    assert found == {
        "once": Phase.DONE,
        "always": Phase.FAILED,
        "b": Phase.DONE,
        "c": Phase.DONE,
    }
    (failed,) = [event for event in events if event.phase is Phase.FAILED]
    assert "was ended by SIGKILL" in failed.note or "for lack of memory" in failed.note
    # From its second beginning to its end nothing else runs.
    beginnings = [
        at for at, e in enumerate(events) if e.job.id == "once" and e.phase is Phase.STARTED
    ]
    end = next(at for at, e in enumerate(events) if e.job.id == "once" and e.phase is Phase.DONE)
    between = events[beginnings[1] : end]
    assert {event.job.id for event in between} == {"once"}


def test_a_job_whose_worker_somebody_asked_to_end_is_begun_again(tmp_path):
    events = launch([job("once", ends="stopped-once"), job("always", ends="stopped")], tmp_path)
    assert ended(events) == {"once": Phase.DONE, "always": Phase.FAILED}
    assert [e.note for e in events if e.phase is Phase.FAILED] == [
        "its worker process was ended by SIGTERM"
    ]


def test_a_job_that_ran_out_of_memory_is_tried_once_more(tmp_path):
    jobs = [job("once", ends="starved-once"), job("always", ends="starved")]
    events = launch(jobs, tmp_path, n_workers=1)
    assert ended(events) == {"once": Phase.DONE, "always": Phase.FAILED}
    assert [e.job.id for e in events if e.phase is Phase.STARTED].count("always") == 2


def most_at_a_time(events):
    now, most = set(), 0
    for event in events:
        if event.phase is Phase.STARTED:
            now.add(event.job.id)
        elif event.phase in (Phase.DONE, Phase.FAILED):
            now.discard(event.job.id)
        most = max(most, len(now))
    return most


def test_jobs_run_beside_each_other_only_as_far_as_memory_allows(tmp_path):
    jobs = [job(f"j{at}", every_s=0.02) for at in range(4)]  # 448 MiB each, by the estimate
    events = launch(jobs, tmp_path, n_workers=3, max_memory_mib=600)
    assert set(ended(events).values()) == {Phase.DONE}
    assert most_at_a_time(events) == 1


def test_a_job_that_takes_more_memory_than_is_allowed_is_told_of(tmp_path):
    events = launch([job("large"), job("next", "large")], tmp_path, max_memory_mib=100)
    assert ended(events) == {"large": Phase.FAILED, "next": Phase.SKIPPED}
    assert "takes about 448 MiB of memory, and all jobs together may take 100" in events[0].note


def test_a_device_is_for_one_job_unless_several_fit():

    room = Room(8, 1e6, {"0": 1000.0, "1": 1000.0})
    small, large, unknown = (Needs(10, mib, 1) for mib in (400, 900, None))
    assert room.place_for(large).device == "0"
    room.take("a", large, "0", 0)
    assert room.place_for(small).device == "1"
    room.take("b", small, "1", 0)
    room.take("c", small, room.place_for(small).device, 0)
    assert room.place_for(small) is None
    assert room.place_for(unknown) is None
    assert room.place_for(Needs(10)).device is None
    room.give_back("a")
    assert room.place_for(unknown).device == "0"
    assert not room.fits(small, None)
    named = Needs(10, 100, 2, own_device=False)
    assert room.place_for(named) is None
    room.give_back("b")
    room.give_back("c")
    assert room.place_for(named).device is None


NVIDIA_SMI = """#!/bin/sh
printf '0, GPU-aa, 1000\\n1, GPU-bb, 1000\\n2, GPU-cc, 1000\\n'
"""


@pytest.fixture
def two_devices(tmp_path, monkeypatch):
    """A machine whose driver tells of three accelerators, of which two are left visible."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-aa")


def test_each_worker_sees_one_accelerator(tmp_path, two_devices, monkeypatch):
    wants = {
        "large": Needs(10, 900, 1),
        "large too": Needs(10, 900, 1),
        "unknown": Needs(10, None, 1),
        "plain": Needs(10),
        "named": Needs(10, 10, 2, own_device=False),
    }
    monkeypatch.setattr(local, "needs", lambda job: wants[job.id])
    events = launch(
        [job(name) for name in wants],
        tmp_path,
        n_workers=5,
        options=Options(),
        perform=note_devices,
    )
    assert set(ended(events).values()) == {Phase.DONE}
    told = {name: (tmp_path / name).read_text().split() for name in wants}
    assert {told["large"][0], told["large too"][0]} == {"2", "GPU-aa"}
    assert told["unknown"][0] in ("2", "GPU-aa")
    assert told["named"][0] == "2,GPU-aa"
    times = {name: (float(began), float(end)) for name, (_, began, end) in told.items()}
    for one in wants:
        for other in set(wants) - {one, "plain"}:
            if one != "plain" and (told[one][0] == told[other][0] or "named" in (one, other)):
                first, second = sorted((times[one], times[other]))
                assert first[1] <= second[0], f"{one} and {other} shared a device"


# --- stopped and killed -----------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from cheap_jobs import grid, setting
from astraios.studies.launchers._room import Room
from astraios.studies.launchers.local import Options, launcher
if __name__ == "__main__":
    def tell(event):
        print(event.phase, event.job.id, flush=True)
    options = Options(devices=(), grace_s=5)
    made = setting(Path(sys.argv[1]), options, n_workers=2)
    launcher.launch(grid(4, n={n_records}, every_s={every_s}), made, tell)
"""


def start(tmp_path, root, *, n_records=5, every_s=0.01, **more):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(here=str(HERE), n_records=n_records, every_s=every_s))
    return subprocess.Popen(
        [sys.executable, str(program), str(root)], stdout=subprocess.PIPE, text=True, **more
    )


def children(process):
    """Process ids of the workers."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []


def workers(process):
    return [
        one
        for one in children(process)
        if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 8))]
)
def test_killing_any_process_at_any_moment_changes_nothing(tmp_path, undisturbed, seed):
    chance = random.Random(seed)
    root = tmp_path / "study"
    for _ in range(1 if seed == 1 else 3):
        process = start(tmp_path, root)
        for line in process.stdout:  # some way into the work
            if line.startswith("started") and chance.random() < 0.4:
                break
        time.sleep(chance.uniform(0, 0.05))
        victims = [process.pid, *workers(process.pid)]
        os.kill(chance.choice(victims), signal.SIGKILL)
        if chance.random() < 0.5:
            process.kill()
        process.communicate()
    with start(tmp_path, root) as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert records(root, grid()) == undisturbed


def test_sigterm_to_a_worker_process_group_leaves_no_process(tmp_path):
    root = tmp_path / "study"
    process = start(tmp_path, root, n_records=1000, every_s=0.02)
    for line in process.stdout:
        if "middle" in line or "progress" in line:
            break
    found = workers(process.pid)
    assert found
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    for one in found:
        with pytest.raises(ProcessLookupError):
            os.kill(one, 0)


def test_a_full_disk_is_a_failure_and_the_same_study_goes_on_later(tmp_path):
    """A worker that may write no longer files stands for a disk without room."""
    root = tmp_path / "study"
    small = (700, 700)  # enough for a manifest, not for the notes of a job
    with start(
        tmp_path,
        root,
        n_records=40,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, small),
    ) as process:
        told, _ = process.communicate(timeout=60)
    assert "failed first" in told and "skipped last" in told
    assert process.returncode == 0
    with start(tmp_path, root, n_records=40) as process:
        told, _ = process.communicate(timeout=60)
    assert "done last" in told
    whole = tmp_path / "whole"
    for one in grid(4, n=40):
        fill(one, setting(whole), lambda *told: None, None)
    assert records(root, grid()) == records(whole, grid())


def test_death_is_told_by_name():
    assert local._death(-9) == "its worker process was ended by SIGKILL"
    assert local._death(3) == "its worker process ended by itself (exit code 3)"


def test_a_base_that_an_idle_worker_keeps_takes_its_place():
    room = Room(4, 1000.0, {})
    job = Needs(600)
    assert room.fits(job, None)
    room.idle(1, 500)
    assert not room.fits(job, None)
    assert room.fits(job, None, held_mib=500)  # the worker that keeps it gives it up
    assert room.place_for(job) is None
    room.idle(1, 0)
    assert room.keeps(job, None, 300) and not room.keeps(job, None, 500)

    room = Room(4, 1e6, {"0": 1000.0})
    job = Needs(600, 700, 1)
    room.idle(1, 500, "0")
    assert room.place_for(job) is None
    assert room.fits(job, "0", held_mib=500)
    assert room.place_for(Needs(600, 400, 1)).device == "0"


def test_jobs_of_one_base_go_to_the_worker_that_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "base_of", lambda one: one.id[0])
    monkeypatch.setattr(local, "needs", lambda job: Needs(10, base_mib=1))
    # The first job of each base is slow, so that both workers are busy with them.
    jobs = [job("a0"), job("b0"), job("b1", "a0", "b0"), job("a1", "a0", "b0")]
    launch(jobs, tmp_path, perform=note_process)
    told = {one.id: (tmp_path / one.id).read_text() for one in jobs}
    assert told["a1"] == told["a0"] != told["b0"] == told["b1"]
