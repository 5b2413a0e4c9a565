"""A run that is killed at any step, again and again, ends as one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from safetensors.torch import load_file

from astraios.files import read_records
from astraios.records import Step
from astraios.runs import is_done
from astraios.training import checkpoints
from astraios.training.checkpoints import COMPLETE, WEIGHTS, latest
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.tune import ADAPTER, tune

FEW = ("adapterh", "fft")
OTHERS = ("adapterp", "ia3", "lora", "parallel", "ptuning")
CASES = [
    *(pytest.param(FEW, method, id=method) for method in FEW),
    *(pytest.param(OTHERS, method, id=method, marks=pytest.mark.slow) for method in OTHERS),
]
OPTIMIZATION = Optimization(
    n_steps=12,
    batch_size=4,
    rows_per_device=2,
    learning_rate=5e-3,
    log_every=5,  # records are means over steps before and after checkpoints
    validate_every=4,
    save_every=2,
)

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to begin again quickly"),
]

PROGRAM = """
import gc, json, os, random, signal, sys, time
from pathlib import Path
from astraios.runs import is_done
from astraios.training.config import TrainingConfig
from astraios.training.process import settle
from astraios.training.tune import tune

settle(1)
configs = Path(sys.argv[1]).read_text().splitlines()
# What is made once in a process is made here, not in every child.
warm = TrainingConfig.model_validate_json(configs[0])
tune(warm, Path(sys.argv[3]) / "warm", base=Path(sys.argv[2]))
gc.freeze()
chance = random.Random(0)
kills = {}
for line in configs:
    config, folder = TrainingConfig.model_validate_json(line), Path(sys.argv[3])
    folder /= config.method
    kills[config.method] = 0
    while not is_done(folder):
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            tune(
                config,
                folder,
                base=Path(sys.argv[2]),
                progress=lambda done, total, note: os.write(told, b".") and None,
            )
            os._exit(0)
        os.close(told)
        # A few steps further each time, for the next attempt begins at most two before.
        steps = chance.randint(2, 6)
        while steps > 0 and os.read(heard, 1):
            steps -= 1
        if steps == 0:
            time.sleep(chance.choice([0, 0.002, 0.005, 0.01, 0.02]))  # somewhere in what follows
            os.kill(child, signal.SIGKILL)
        os.close(heard)
        _, status = os.waitpid(child, 0)
        kills[config.method] += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit(f"{config.method}: exit status {os.WEXITSTATUS(status)}")
sys.stdout.write(json.dumps(kills))
"""


def config(method: str) -> TrainingConfig:
    return TrainingConfig(
        base_model="tiny",
        method=method,
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
    )


Killed = Callable[[tuple[str, ...]], tuple[Path, dict[str, int]]]


@pytest.fixture(scope="module")
def killed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Folder of runs, one a method, and how often each was killed: once a group of methods."""
    return cache(lambda methods: kill(methods, base, tmp_path_factory.mktemp("killed")))


def kill(methods: tuple[str, ...], base: Path, root: Path) -> tuple[Path, dict[str, int]]:
    (root / "configs.jsonl").write_text("\n".join(config(m).model_dump_json() for m in methods))
    (root / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [
            *(sys.executable, str(root / "program.py"), str(root / "configs.jsonl")),
            *(str(base), str(root / "runs")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root / "runs", json.loads(done.stdout)


def losses(folder: Path) -> list[tuple[int, float]]:
    records = read_records(folder / "metrics.jsonl", Step)
    return [(s.step, s.loss or s.validation_loss or 0.0) for s in records]


def check_same(folder: Path, other: Path) -> None:
    found, expected = losses(folder), losses(other)
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-6)


@pytest.mark.parametrize(("group", "method"), CASES)
def test_a_run_killed_several_times_ends_as_one_that_was_not(
    group: tuple[str, ...], method: str, base: Path, killed: Killed, tmp_path: Path
) -> None:
    root, kills = killed(group)
    assert kills[method] >= 2
    tune(config(method), tmp_path / method, base=base)
    check_same(root / method, tmp_path / method)
    for path in (tmp_path / method / ADAPTER).glob("*.safetensors"):
        saved, wanted = load_file(root / method / ADAPTER / path.name), load_file(path)
        assert saved.keys() == wanted.keys()
        for name, weight in wanted.items():
            torch.testing.assert_close(saved[name], weight, rtol=0, atol=1e-6)


# --- torn checkpoints -------------------------------------------------------------------------


class Cut(BaseException):
    """Not an error that anything would catch."""


@pytest.fixture
def cut(base: Path, tmp_path: Path) -> Path:
    """A run that ended at step 7, with the checkpoints of steps 4 and 6."""

    def progress(done: int, total: int, note: str) -> None:
        if done == 7:
            raise Cut

    with pytest.raises(Cut):
        tune(config("lora"), tmp_path / "run", base=base, progress=progress)
    return tmp_path / "run"


def begins_at(folder: Path, base: Path) -> int:
    """The step that a run is taken up at; it is finished."""
    seen: list[int] = []
    tune(config("lora"), folder, base=base, progress=lambda done, total, note: seen.append(done))
    assert is_done(folder)
    return seen[0] - 1


def test_a_run_goes_on_from_the_newest_checkpoint(cut: Path, base: Path) -> None:
    assert begins_at(cut, base) == 6


@pytest.mark.parametrize("file", [WEIGHTS, "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_file_that_was_cut_short_is_noticed(
    file: str, cut: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cut / checkpoints.FOLDER / "checkpoint-6" / file
    path.write_bytes(path.read_bytes()[:-10])
    assert begins_at(cut, base) == 4
    assert f"checkpoint-6 is damaged and not used: {file} has" in caplog.text
    tune(config("lora"), tmp_path / "whole", base=base)
    check_same(cut, tmp_path / "whole")


@pytest.mark.parametrize("file", [WEIGHTS, COMPLETE])
def test_a_file_that_is_missing_is_noticed(file: str, cut: Path, base: Path) -> None:
    (cut / checkpoints.FOLDER / "checkpoint-6" / file).unlink()
    assert begins_at(cut, base) == 4


def test_a_garbled_mark_of_a_whole_checkpoint_is_none(cut: Path, base: Path) -> None:
    (cut / checkpoints.FOLDER / "checkpoint-6" / COMPLETE).write_text('{"step": 6')
    assert begins_at(cut, base) == 4


def test_a_run_without_a_whole_checkpoint_begins_afresh(cut: Path, base: Path) -> None:
    for path in cut.rglob(COMPLETE):
        path.unlink()
    assert begins_at(cut, base) == 0


def test_torn_checkpoints_push_no_whole_one_out(cut: Path) -> None:
    folder = cut / checkpoints.FOLDER
    (folder / "checkpoint-6" / COMPLETE).unlink()
    checkpoints.sweep(folder)
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-4"]
    assert latest(folder) is not None
