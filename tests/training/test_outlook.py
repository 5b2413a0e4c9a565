"""What a training will be is told before it begins, and holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from astraios.data.pack import load_tokenizer
from astraios.errors import TrainingError
from astraios.files import read_json
from astraios.records import Cost
from astraios.training import _trainer, memory
from astraios.training.accounting import Operations
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig, pack_config
from astraios.training.memory import Live
from astraios.training.outlook import Outlook, before, outlook
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.rows import data_folder, ensure_packed, training_rows
from astraios.training.tune import start, tune

pytestmark = pytest.mark.train
OPTIMIZATION = Optimization(n_steps=8, batch_size=8, rows_per_device=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    pretrain(
        PretrainingConfig(
            name="tiny",
            hidden=64,
            n_layers=3,
            n_heads=2,
            vocabulary=400,
            n_tokenizer_documents=400,
            optimization=OPTIMIZATION.model_copy(update={"n_steps": 2}),
        ),
        root / "run",
    )
    return root / "run" / MODEL


def config(method: str, *, layout: Any = "bucketed", n: int = 40, **changes: Any) -> TrainingConfig:
    return TrainingConfig(
        base_model="tiny",
        method=method,
        layout=layout,
        n_examples=n,
        n_validation=8,
        optimization=OPTIMIZATION,
        **changes,
    )


def packed(wanted: TrainingConfig, base: Path, root: Path) -> Path:
    packing = pack_config(wanted)
    tokenizer = load_tokenizer(base)
    folder = data_folder(packing, root, tokenizer=tokenizer)
    ensure_packed(packing, folder, tokenizer=tokenizer)
    return folder


@pytest.mark.parametrize("method", ["fft", "lora", "adapterh", "ptuning", "adalora"])
def test_sizes_are_those_of_the_training(method: str, base: Path, tmp_path: Path) -> None:
    wanted = config(method)
    data = packed(wanted, base, tmp_path)
    found = outlook(wanted, data, base)
    assert (found.rows_per_device, found.accumulation, found.n_steps) == (4, 2, 8)
    assert found.estimate_mib == pytest.approx(
        found.weights_mib + found.gradients_mib + found.optimizer_mib + found.activations_mib
    )
    assert (found.seconds or 0) > 0
    assert found.activations_mib > 0
    tune(wanted, tmp_path / "run", base=base, data=data)
    cost = read_json(tmp_path / "run" / "cost.json", Cost)
    assert found.n_tokens == cost.n_tokens
    assert found.trainable_parameters == cost.trainable_parameters
    assert found.total_parameters == cost.total_parameters
    assert found.gradients_mib == pytest.approx(cost.gradient_mib)
    assert found.optimizer_mib == pytest.approx(cost.optimizer_mib, rel=0.01, abs=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
@pytest.mark.parametrize(
    "changes",
    [pytest.param(one, marks=pytest.mark.slow) for one in ({}, {"gradient_checkpointing": True})],
)
def test_the_estimate_is_near_what_is_measured(
    changes: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    wanted = config("fft", layout="best_fit", n=1_500, block_length=256, **changes)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(wanted.model_copy(update={"base_model": str(base)}).model_dump_json())
    # In a process of its own: what earlier tests gave back is used again before it grows.
    done = subprocess.run(
        [sys.executable, "-m", "astraios", "train", recipe, "--dry-run", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = Outlook.model_validate_json(done.stdout)
    measured = found.measured_mib or 0
    # Libraries that are loaded on the way are some MiB, whatever the training.
    assert found.estimate_mib == pytest.approx(measured, rel=0.2, abs=8)
    assert found.error == pytest.approx(found.estimate_mib / measured - 1)
    assert (found.process_mib or 0) >= measured


def test_before_trains_nothing_and_measures_nothing(base: Path, tmp_path: Path) -> None:
    wanted = config("lora")
    tuned = start(wanted, base)
    weights = {name: weight.clone() for name, weight in tuned.named_parameters()}
    rows, _ = training_rows(wanted, packed(wanted, base, tmp_path))
    found = before(tuned, rows, wanted)
    assert (found.measured_mib, found.error, found.seconds) == (None, None, None)
    assert found.estimate_mib > found.weights_mib > 0
    for name, weight in tuned.named_parameters():
        assert torch.equal(weight, weights[name]) and weight.grad is None


def test_devices_that_share_a_model_need_less_each(base: Path) -> None:
    wanted = config("fft", sharding="fsdp2")
    tuned: Any = start(wanted, base)
    rows, one = memory_rows(), None
    for n_devices in (1, 2, 4):
        found = memory.estimate(tuned, rows, wanted, n_devices=n_devices)
        if one is None:
            one = found
        assert found.optimizer_mib == pytest.approx(one.optimizer_mib / n_devices, rel=0.01)
        assert found.weights_mib == pytest.approx(one.weights_mib / n_devices, rel=0.01)


def memory_rows() -> list[Any]:
    from astraios.data import Row

    return [Row(list(range(20)), list(range(20)), list(range(20))) for _ in range(2)]


def test_memory_that_runs_out_before_the_first_step_is_told(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate")

    wanted = config("lora")
    data = packed(wanted, base, tmp_path)
    monkeypatch.setattr(_trainer.OurTrainer, "compute_loss", fails)
    with pytest.raises(TrainingError, match=r"out of memory at step 0 .*rows_per_device \(now 4\)"):
        outlook(wanted, data, base)


def test_bytes_are_counted_from_the_making_of_a_tensor_to_its_end() -> None:
    given = torch.zeros(1_000)
    with Live() as live:
        first = given + 1
        view = first[:10]
        second = first * 2
        given += 1  # in place, and made outside
        assert live.now == 8_000
        del second
        assert (live.now, live.peak) == (4_000, 8_000)
        del first
        assert live.now == 4_000  # a view keeps all of it
        del view
        assert live.now == 0


def test_operations_are_those_of_products_and_attention() -> None:
    n_layers, n_heads, width, n_tokens, n_rows = 2, 4, 64, 48, 3
    shape = GPTBigCodeConfig(
        vocab_size=60,
        n_positions=n_tokens,
        n_embd=width,
        n_layer=n_layers,
        n_head=n_heads,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTBigCodeForCausalLM(shape).train()
    model.config.use_cache = False
    ids_BT = torch.arange(n_rows * n_tokens).reshape(n_rows, n_tokens) % 60
    with Operations() as counted:
        model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    # The head among them.
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    products = 3 * 2 * linear * n_rows * n_tokens  # forward; back to inputs and to weights
    # Forward two products of T x T by the width, backward four.
    attention = (2 + 4) * 2 * n_layers * n_rows * n_tokens**2 * width
    assert counted.get_total_flops() == products + attention
