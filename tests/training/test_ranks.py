"""Two processes train what one trains: same losses, same saved adapter, for every method."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from safetensors.torch import load_file

from astraios.files import read_records
from astraios.records import Step
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.tune import ADAPTER, tune

FEW = ("adalora", "adapterh")
OTHERS = ("adapterp", "fft", "ia3", "lora", "parallel", "ptuning")
CASES = [
    *(pytest.param(FEW, method, id=method) for method in FEW),
    *(pytest.param(OTHERS, method, id=method, marks=pytest.mark.slow) for method in OTHERS),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1, "orth_reg_weight": 2.0},
    "lora": {"lora_dropout": 0.0},
}
OPTIMIZATION = Optimization(
    n_steps=4, batch_size=4, learning_rate=1e-3, log_every=1, validate_every=2, save_every=2
)

pytestmark = pytest.mark.train

PROGRAM = """
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from astraios.training.config import TrainingConfig
from astraios.training.process import settle
from astraios.training.tune import tune

settle(1)
configs, base, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
for line in configs.read_text().splitlines():
    config = TrainingConfig.model_validate_json(line)
    tune(config, out / config.method, base=base)
"""


def config(method: str) -> TrainingConfig:
    return TrainingConfig(
        base_model="tiny",
        method=method,
        method_options=OPTIONS.get(method, {}),
        layout="bucketed",
        block_length=256,
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
    )


def losses(folder: Path) -> list[tuple[int, float]]:
    records = read_records(folder / "metrics.jsonl", Step)
    return [
        (s.step, s.loss if s.loss is not None else float(s.validation_loss or 0)) for s in records
    ]


Made = Callable[[tuple[str, ...]], tuple[Path, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Folders of the runs that one process made, and of those of two: once a group of methods."""
    return cache(lambda methods: make(methods, tmp_path_factory.mktemp("ranks")))


def make(methods: tuple[str, ...], root: Path) -> tuple[Path, Path]:
    pretrain(
        PretrainingConfig(
            name="tiny",
            hidden=16,
            n_layers=2,
            n_heads=2,
            vocabulary=400,
            n_tokenizer_documents=400,
            optimization=OPTIMIZATION,
        ),
        root / "base",
    )
    base = root / "base" / MODEL
    for method in methods:
        tune(config(method), root / "one" / method, base=base)
    configs = root / "configs.jsonl"
    configs.write_text("\n".join(config(method).model_dump_json() for method in methods))
    program = root / "program.py"
    program.write_text(PROGRAM)
    launched = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--standalone",
            str(program),
            str(configs),
            str(base),
            str(root / "two"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    return root / "one", root / "two"


@pytest.mark.parametrize(("group", "method"), CASES)
def test_two_processes_have_the_losses_of_one(
    group: tuple[str, ...], method: str, made: Made
) -> None:
    one, two = (losses(folder / method) for folder in made(group))
    assert [step for step, _ in two] == [step for step, _ in one]
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-4)


@pytest.mark.parametrize(("group", "method"), CASES)
def test_two_processes_save_the_weights_of_one(
    group: tuple[str, ...], method: str, made: Made
) -> None:
    one, two = (
        {
            path.name: load_file(path)
            for path in sorted((folder / method / ADAPTER).glob("*.safetensors"))
        }
        for folder in made(group)
    )
    assert one.keys() == two.keys() and one
    for name, weights in one.items():
        assert weights.keys() == two[name].keys()
        for key, weight in weights.items():
            # Adam's first steps are the sign of a gradient, which rounding can turn.
            torch.testing.assert_close(two[name][key], weight, rtol=0, atol=2e-3)
            assert (two[name][key] - weight).abs().mean() < 1e-4
