"""Two processes that hold a model together train what one trains, and can be interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from safetensors.torch import load_file

from astraios import methods
from astraios.config import fingerprint
from astraios.errors import TrainingError
from astraios.files import read_json, read_records
from astraios.records import Cost, Step
from astraios.training.base import load_base
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.sharding import ZERO3
from astraios.training.tune import ADAPTER, tune

METHODS = ("adapterh", "fft", "ia3", "lora", "ptuning")
OPTIMIZATION = Optimization(
    n_steps=6,
    batch_size=8,
    rows_per_device=2,
    learning_rate=1e-3,
    clip=0.05,  # of the order of the gradients: it matters that their norm is that of all parts
    log_every=2,
    validate_every=2,
    save_every=3,
)
BF16 = {"base_precision": "bf16", "compute_precision": "bf16", "gradient_checkpointing": True}

pytestmark = [pytest.mark.train, pytest.mark.slow]

PROGRAM = """
if "DS_ACCELERATOR" in __import__("os").environ:
    # accelerate asks nobody how many processes there are, for DeepSpeed without a GPU.
    import torch
    from accelerate import PartialState
    state = PartialState(cpu=False)
    state.num_processes = torch.distributed.get_world_size()
    state.process_index = state.local_process_index = torch.distributed.get_rank()
    state.backend = "gloo"
import json, os, signal, sys
from pathlib import Path
from astraios.training.config import TrainingConfig
from astraios.training.process import settle
from astraios.training.tune import tune

settle(1)
for line in Path(sys.argv[1]).read_text().splitlines():
    job = json.loads(line)
    config = TrainingConfig.model_validate(job["config"])

    def progress(done, total, note):
        if done == job["stop_at"]:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        tune(config, Path(job["folder"]), base=Path(sys.argv[2]), progress=progress)
    except KeyboardInterrupt:
        if job["resume"]:
            tune(config, Path(job["folder"]), base=Path(sys.argv[2]))
"""


def config(method: str, **changes: Any) -> TrainingConfig:
    return TrainingConfig(
        base_model="tiny",
        method=method,
        method_options={"lora_dropout": 0.0} if method == "lora" else {},
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
        **changes,
    )


def job(folder: Path, wanted: TrainingConfig, stop_at: int = 0, resume: bool = True) -> str:
    """A line for the program: a run, and after which step it is asked to stop."""
    where = {"config": wanted.model_dump(mode="json"), "folder": str(folder / wanted.method)}
    return json.dumps({**where, "stop_at": stop_at, "resume": resume})


def launch(root: Path, base: Path, jobs: list[str], **environment: str) -> None:
    """Do the jobs on two processes."""
    (root / "jobs.jsonl").write_text("\n".join(jobs))
    (root / "program.py").write_text(PROGRAM)
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--standalone", str(root / "program.py"), str(root / "jobs.jsonl"), str(base)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]


@pytest.fixture(scope="module")
def root(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process in `one`; of two in `two`, `cut` (resumed), `half` (bf16), `open`."""
    root = tmp_path_factory.mktemp("sharded")
    for method in METHODS:
        tune(config(method), root / "one" / method, base=base)
    tune(config("adapterh", **BF16), root / "one-half" / "adapterh", base=base)
    jobs = [job(root / "two", config(method, sharding="fsdp2")) for method in METHODS]
    jobs.append(job(root / "half", config("adapterh", sharding="fsdp2", **BF16)))
    cut = (config(method, sharding="fsdp2") for method in ("fft", "ptuning"))
    jobs.extend(job(root / "cut", wanted, stop_at=3) for wanted in cut)
    jobs.append(job(root / "open", config("fft", sharding="fsdp2"), stop_at=4, resume=False))
    launch(root, base, jobs)
    return root


def steps(folder: Path) -> list[tuple[int, float, float]]:
    """Step, loss and norm of the gradients of every record."""
    records = read_records(folder / "metrics.jsonl", Step)
    return [(s.step, s.loss or s.validation_loss or 0, s.gradient_norm or 0) for s in records]


def check_same(folder: Path, other: Path, tolerance: float = 1e-4) -> None:
    """Losses, norms of the gradients and saved weights."""
    found, expected = steps(folder), steps(other)
    assert [step for step, *_ in found] == [step for step, *_ in expected]
    for at, _ in enumerate(expected):
        assert found[at] == pytest.approx(expected[at], abs=tolerance)
    saved, wanted = (
        {path.name: load_file(path) for path in sorted((of / ADAPTER).glob("*.safetensors"))}
        for of in (folder, other)
    )
    assert saved.keys() == wanted.keys() and wanted
    for name, weights in wanted.items():
        assert saved[name].keys() == weights.keys()
        for key, weight in weights.items():
            # Adam's first steps are the sign of a gradient, which rounding can turn.
            torch.testing.assert_close(saved[name][key], weight, rtol=0, atol=2e-3)
            assert (saved[name][key] - weight).abs().mean() < tolerance


@pytest.mark.parametrize("method", METHODS)
def test_two_that_hold_parts_train_what_one_trains(method: str, root: Path, base: Path) -> None:
    check_same(root / "two" / method, root / "one" / method)
    # What was saved is whole and says which base it is for.
    methods.method(method).load(load_base(base)[0], root / "two" / method / ADAPTER)


def test_checkpointing_and_half_precision_are_those_of_one(root: Path) -> None:
    check_same(root / "half" / "adapterh", root / "one-half" / "adapterh", tolerance=1e-3)


@pytest.mark.parametrize("method", ["fft", "ptuning"])
def test_an_interrupted_run_goes_on_exactly(method: str, root: Path) -> None:
    check_same(root / "cut" / method, root / "two" / method, tolerance=1e-6)


def test_one_process_takes_up_what_two_began(root: Path, base: Path) -> None:
    folder = root / "open" / "fft"
    assert not (folder / ADAPTER).exists()
    tune(config("fft"), folder, base=base)
    check_same(folder, root / "one" / "fft")


def test_a_device_holds_half_of_gradients_and_optimizer(root: Path) -> None:
    one, two = (read_json(root / of / "fft" / "cost.json", Cost) for of in ("one", "two"))
    assert two.trainable_parameters == one.trainable_parameters
    assert two.gradient_mib == pytest.approx((one.gradient_mib or 0) / 2, rel=0.02)
    assert two.optimizer_mib == pytest.approx((one.optimizer_mib or 0) / 2, rel=0.02)


def test_how_devices_hold_a_model_is_in_no_fingerprint() -> None:
    found = {fingerprint(config("fft", sharding=how)) for how in ("none", "fsdp2", "zero3")}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("method", "changes", "complaint"),
    [
        ("lora", {"base_precision": "nf4"}, r"base in nf4 cannot be divided.*bf16 or fp32"),
        ("adalora", {}, r"'adalora' looks at all of its weights.*sharding to none"),
        ("fft", {}, r"there is one process; start the same command with torchrun"),
    ],
)
def test_what_cannot_be_sharded_is_told(
    method: str, changes: dict[str, Any], complaint: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=complaint):
        tune(config(method, sharding="fsdp2", **changes), tmp_path / "run", base=base)


def test_states_in_blocks_cannot_be_sharded(base: Path, tmp_path: Path) -> None:
    eight = OPTIMIZATION.model_copy(update={"optimizer": "adamw_8bit"})
    wanted = config("fft", sharding="fsdp2").model_copy(update={"optimization": eight})
    with pytest.raises(TrainingError, match=r"'adamw_8bit' keeps blocks.*to adamw"):
        tune(wanted, tmp_path / "run", base=base)


def test_a_missing_deepspeed_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astraios.training.sharding.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"needs DeepSpeed; .*pip install deepspeed.*fsdp2"):
        tune(config("fft", sharding="zero3"), tmp_path / "run", base=base)


def test_deepspeed_trains_what_one_process_trains(root: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="needs DeepSpeed: pip install deepspeed")
    methods = ("fft", "lora", "ptuning")
    jobs = [job(tmp_path / "zero", config(method, sharding="zero3")) for method in methods]
    jobs.append(job(tmp_path / "cut", config("lora", sharding="zero3"), stop_at=3))
    launch(
        tmp_path,
        base,
        jobs,
        DS_ACCELERATOR="cpu",
        ACCELERATE_USE_DEEPSPEED="true",
        ACCELERATE_DEEPSPEED_CONFIG_FILE=str(ZERO3),
    )
    for method in methods:
        check_same(tmp_path / "zero" / method, root / "one" / method)
    check_same(tmp_path / "cut" / "lora", tmp_path / "zero" / "lora", tolerance=1e-6)
