"""A real study, tiny, in the hands of launchers: killed, starved of disk, spread over a cluster."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from tests.studies.tiny import command, pretrained, run

from astraios.files import read_records
from astraios.records import JobFailure, Sample, Step, Verdict
from astraios.runs import find_runs

pytestmark = pytest.mark.slow

STUDY = """
name: tiny
base_models: [base/model]
methods: [lora]
tasks: [minipack-synthesize]
limit_problems: 4
training:
  n_examples: 32
  layout: bucketed
  n_validation: 4
  optimization: {n_steps: 20, batch_size: 4, learning_rate: 0.01, save_every: 3}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    pretrained(folder / "base", n_steps=10)
    (folder / "study.yaml").write_text(STUDY)
    return folder


def records(root: Path) -> dict[str, object]:
    """Everything of a study that is a result, without times."""
    found: dict[str, object] = {}
    for made in find_runs(root):
        losses = [
            (s.step, s.loss, s.validation_loss, s.gradient_norm)
            for s in read_records(made.folder / "metrics.jsonl", Step)
        ]
        weights = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(made.folder.glob("adapter*/*.safetensors"))
        }
        samples = sorted(s.model_dump_json() for s in made.read("samples", Sample))
        verdicts = sorted(
            (v.problem_id, v.index, v.outcome, v.detail) for v in made.read("verdicts", Verdict)
        )
        scores = made.folder / "scores.json"
        told = scores.read_bytes() if scores.exists() else b""
        found[made.manifest.run_id] = (losses, weights, samples, verdicts, told)
    return found


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, object]:
    done = run(place, "whole", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    return records(place / "whole/tiny")


def processes_below(pid: int) -> list[int]:
    """A process and all that it started, itself or through others."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += processes_below(int(child))
        except OSError:
            continue
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("seed", range(4))
def test_killing_any_process_again_and_again_changes_nothing(
    place: Path, undisturbed: dict[str, object], seed: int
) -> None:
    """Launcher, worker or a child that judges: one of them at a random moment, then once more."""
    chance = random.Random(seed)
    out = f"killed-{seed}"
    for _ in range(4):
        process = subprocess.Popen(
            command(out, "--jobs", "2"),
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + chance.uniform(3, 25)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is None:
            os.kill(chance.choice(processes_below(process.pid)), signal.SIGKILL)
            if chance.random() < 0.5:
                process.kill()
        process.wait(timeout=300)
    done = run(place, out, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert records(place / out / "tiny") == undisturbed


def test_sigterm_leaves_a_checkpoint_and_no_process(
    place: Path, undisturbed: dict[str, object]
) -> None:
    seldom = "training.optimization.save_every=1000"  # it is saved for the signal alone
    made = command("term", seldom, "--jobs", "1")
    process = subprocess.Popen(made, cwd=place, stderr=subprocess.PIPE, text=True)
    root = place / "term/tiny"
    deadline = time.monotonic() + 500
    metrics: list[Path] = []
    while not any(path.stat().st_size for path in metrics) and time.monotonic() < deadline:
        time.sleep(0.02)
        metrics = list(root.glob("train/*/*/*/metrics.jsonl"))
    found = processes_below(process.pid)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "run the same command again to continue" in told
    assert list(root.glob("train/*/*/*/checkpoints/checkpoint-*"))
    deadline = time.monotonic() + 30  # Python's own helpers end a moment after those they helped
    while (left := [pid for pid in found if lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    done = run(place, "term", seldom, "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert records(root) == undisturbed


def test_a_full_disk_is_told_of_and_later_the_study_ends_the_same(
    place: Path, undisturbed: dict[str, object]
) -> None:
    """A small file system in memory, which is full before the study is done."""
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here: it takes root")
    try:
        done = run(place, "disk", "--jobs", "1")
        assert done.returncode == 1, done.stderr
        assert "the disk is full; free some space and run the command again" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        failed = list(read_records(disk / "tiny/failures.jsonl", JobFailure))
        assert all(str(place) not in failure.message for failure in failed)
        done = run(place, "disk", "--jobs", "1")
        assert done.returncode == 0, done.stderr
        assert records(disk / "tiny") == undisturbed
        assert not (disk / "tiny/failures.jsonl").exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_study_on_ray_is_the_same_to_the_bit(place: Path, undisturbed: dict[str, object]) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'astraios[ray]'")
    done = run(place, "ray", "--launcher", "ray", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert records(place / "ray/tiny") == undisturbed
