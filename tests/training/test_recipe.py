"""The choices of a recipe: precision, accumulation, optimizer, loss, and how a run is stopped."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from safetensors.torch import load_file

from astraios import methods, registry
from astraios.errors import MethodError, StorageError, TrainingError
from astraios.files import read_json, read_records
from astraios.records import Cost, Step
from astraios.runs import is_done
from astraios.training import _trainer
from astraios.training.base import load_base
from astraios.training.checkpoints import Best
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.tune import ADAPTER, BEST, start, tune

OPTIMIZATION = Optimization(
    n_steps=6, batch_size=4, learning_rate=5e-3, log_every=1, validate_every=2, save_every=2
)
ALL = ("adapterh", "adapterp", "fft", "ia3", "lora", "parallel", "ptuning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    config = PretrainingConfig(
        name="tiny",
        hidden=64,  # blocks of four-bit weights have 64
        n_layers=2,
        n_heads=2,
        vocabulary=400,
        n_tokenizer_documents=400,
        optimization=OPTIMIZATION,
    )
    pretrain(config, folder)
    return folder / MODEL


def config(method: str, *, n: int = 60, **changes: Any) -> TrainingConfig:
    mine = set(Optimization.model_fields) & set(changes)
    optimization = OPTIMIZATION.model_copy(update={name: changes.pop(name) for name in mine})
    return TrainingConfig(
        base_model="tiny",
        method=method,
        layout="bucketed",
        n_examples=n,
        n_validation=32,
        optimization=optimization,
        **changes,
    )


def losses(folder: Path) -> list[float]:
    records = read_records(folder / "metrics.jsonl", Step)
    return [s.loss if s.loss is not None else s.validation_loss or 0.0 for s in records]


def validated(folder: Path) -> dict[int, float]:
    records = read_records(folder / "metrics.jsonl", Step)
    return {s.step: s.validation_loss for s in records if s.validation_loss is not None}


def trained(base: Path, folder: Path, method: str, **changes: Any) -> list[float]:
    tune(config(method, **changes), folder, base=base)
    return losses(folder)


@pytest.mark.parametrize("method", ALL)
def test_accumulation_changes_no_loss(method: str, base: Path, tmp_path: Path) -> None:
    off = {"lora": {"lora_dropout": 0.0}}.get(method, {})
    whole = trained(base, tmp_path / "whole", method, method_options=off)
    parts = trained(base, tmp_path / "parts", method, method_options=off, rows_per_device=1)
    assert parts == pytest.approx(whole, abs=1e-4)


def test_mean_of_means_is_another_loss(base: Path, tmp_path: Path) -> None:
    tokens = trained(base, tmp_path / "a", "fft", rows_per_device=1)
    means = trained(base, tmp_path / "b", "fft", rows_per_device=1, loss="mean-of-means")
    assert means[1] != pytest.approx(tokens[1], abs=1e-4)
    assert means[0] == tokens[0]  # the validation loss is over tokens either way


@pytest.mark.parametrize("method", ALL)
def test_checkpointing_changes_no_loss(method: str, base: Path, tmp_path: Path) -> None:
    off = {"lora": {"lora_dropout": 0.0}}.get(method, {})
    kept = trained(base, tmp_path / "kept", method, method_options=off)
    again = trained(
        base, tmp_path / "again", method, method_options=off, gradient_checkpointing=True
    )
    assert again == pytest.approx(kept, abs=1e-5)


QUICK = (("bf16", "ptuning"), ("int8", "adapterh"), ("nf4", "lora"))


@pytest.mark.parametrize(
    ("precision", "method"),
    [
        pytest.param(
            precision,
            method,
            marks=() if (precision, method) in QUICK else pytest.mark.slow,
        )
        for precision in ("bf16", "int8", "nf4")
        for method in ALL
        if method != "fft"
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # bitsandbytes, of kernels for other machines
def test_base_of_another_precision_is_tuned(
    precision: Any, method: str, base: Path, tmp_path: Path
) -> None:
    if precision != "bf16":
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: astraios[quant]")
    options = {"bottleneck_size": 8} if method in ("adapterh", "adapterp", "parallel") else {}
    if method == "lora":
        options = {"lora_dropout": 0.0}
    tune(
        config(
            method,
            base_precision=precision,
            method_options=options,
            n_steps=16,
            learning_rate=3e-3 if method == "ptuning" else 1e-2,
        ),
        tmp_path / "run",
        base=base,
    )
    found = validated(tmp_path / "run")
    assert found[16] < found[0]
    saved = load_file(tmp_path / "run" / ADAPTER / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in saved.values()} == {"torch.float32"}
    # Evaluated on the whole base.
    registry.load(methods, "method", method).load(load_base(base)[0], tmp_path / "run" / ADAPTER)


@pytest.mark.slow
def test_compute_in_bf16_keeps_fp32_masters(base: Path, tmp_path: Path) -> None:
    full = trained(base, tmp_path / "full", "adapterh")
    half = trained(base, tmp_path / "half", "adapterh", compute_precision="bf16")
    assert half != full
    assert half == pytest.approx(full, abs=0.1)
    saved = load_file(tmp_path / "half" / ADAPTER / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in saved.values()} == {"torch.float32"}


def test_a_quantised_base_cannot_be_trained_itself(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"'fft' trains the base.*set base_precision to bf16"):
        trained(base, tmp_path / "run", "fft", base_precision="int8")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bit_optimizers_train(optimizer: str, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: astraios[quant]")
    found = trained(base, tmp_path / "run", "fft", optimizer=optimizer)
    assert found[-1] < found[0]


def test_rows_that_cannot_be_divided_are_told(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"batch_size 4.*3 row\(s\).*divisor of 4"):
        trained(base, tmp_path / "run", "lora", rows_per_device=3)


# --- ends -------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_beside_the_last(base: Path, tmp_path: Path) -> None:
    # So high a rate that the loss rises again.
    tune(config("fft", learning_rate=0.3, divergence=100.0), tmp_path / "run", base=base)
    found = validated(tmp_path / "run")
    best = read_json(tmp_path / "run" / "best.json", Best)
    assert found[best.step] == best.validation_loss == min(found[step] for step in (2, 4, 6))
    assert (tmp_path / "run" / BEST).is_dir() == (best.step < 6)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_loss_that_stays_high_ends_the_run(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverges: the loss is .* after .*divergence"):
        trained(base, tmp_path / "run", "fft", learning_rate=3.0, divergence=1.2, n_steps=40)


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)
def test_sigterm_saves_and_the_rerun_ends_the_same(base: Path, tmp_path: Path) -> None:
    whole = trained(base, tmp_path / "whole", "ptuning", save_every=100)

    def progress(done: int, total: int, note: str) -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        tune(config("ptuning", save_every=100), cut, base=base, progress=progress)
    assert (cut / "checkpoints" / "checkpoint-3" / "complete.json").exists()
    assert not is_done(cut)
    assert trained(base, cut, "ptuning", save_every=100) == pytest.approx(whole, abs=1e-6)


def test_a_checkpoint_that_does_not_fit_is_not_begun(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Any) -> Any:
        return type("Usage", (), {"free": 10})

    monkeypatch.setattr(_trainer.shutil, "disk_usage", full)
    with pytest.raises(StorageError, match=r"needs 0 MiB and 0 MiB are free; make room"):
        trained(base, tmp_path / "run", "lora")
    monkeypatch.undo()
    trained(base, tmp_path / "run", "lora")
    assert is_done(tmp_path / "run")


def test_out_of_memory_says_what_to_lower(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate")

    monkeypatch.setattr(_trainer.OurTrainer, "compute_loss", fails)
    with pytest.raises(
        TrainingError, match=r"out of memory at step 0 with .* MiB.*rows_per_device"
    ):
        trained(base, tmp_path / "run", "lora")


def test_the_cost_tells_operations_and_memory(base: Path, tmp_path: Path) -> None:
    costs = {}
    for method in ("fft", "lora"):
        trained(base, tmp_path / method, method)
        costs[method] = read_json(tmp_path / method / "cost.json", Cost)
    full, low_rank = costs["fft"], costs["lora"]
    model = load_base(base)[0]
    inputs, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    products = model.num_parameters() - inputs.numel() - model.config.n_positions * 64
    products += head.numel()  # tied: an embedding is looked up, the head is a product
    per_token = (full.flops or 0) / full.n_tokens
    # Two operations a weight forward and four backward, at the head for targets alone; attention
    # and padding are beside it, biases and norms are none.
    assert 4.5 * products < per_token < 9 * products
    assert 0.5 < (low_rank.flops or 0) / (full.flops or 1) < 0.9  # no gradient of frozen weights
    for cost in costs.values():
        assert cost.gradient_mib == pytest.approx(cost.trainable_parameters * 4 / 2**20)
        assert cost.optimizer_mib == pytest.approx(2 * cost.gradient_mib, rel=0.01)
        assert cost.device_s == cost.wall_s
        assert 0 < (cost.mfu or 0) < 1


def test_adalora_moves_its_ranks_and_its_penalty_is_in_no_validation_loss(
    base: Path, tmp_path: Path
) -> None:
    options = {"init_r": 4, "target_r": 1, "tinit": 1, "tfinal": 1, "deltaT": 1}
    heavy = {**options, "orth_reg_weight": 100.0}
    light = trained(base, tmp_path / "light", "adalora", method_options=options)
    loud = trained(base, tmp_path / "loud", "adalora", method_options=heavy, divergence=1e6)
    assert loud[0] == light[0]
    assert loud[1] > light[1] + 1
    saved = load_file(tmp_path / "light" / ADAPTER / "adapter_model.safetensors")
    scales = [weight for name, weight in saved.items() if name.endswith("lora_E")]
    assert sum(weight.numel() for weight in scales) < 4 * len(scales)


def test_any_method_of_peft_is_trained(base: Path, tmp_path: Path) -> None:
    tune(
        config("peft-loha", method_options={"r": 4}, n_steps=12, learning_rate=3e-2),
        tmp_path / "run",
        base=base,
    )
    found = validated(tmp_path / "run")
    assert found[12] < found[0]
    method = methods.method("peft-loha")
    method.load(load_base(base)[0], tmp_path / "run" / ADAPTER)


def test_a_missing_library_of_quantisation_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("base", "optimizers"):
        monkeypatch.setattr(f"astraios.training.{module}.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"base_precision 'nf4' needs bitsandbytes.*\[quant\]"):
        trained(base, tmp_path / "a", "lora", base_precision="nf4")
    with pytest.raises(TrainingError, match=r"'adamw_8bit' needs bitsandbytes.*\[quant\]"):
        trained(base, tmp_path / "b", "lora", optimizer="adamw_8bit")


HALF_LEFT = tuple(n for n in registry.names(methods) if n != "qlora")  # that needs four bits
SMALL = {
    "adalora": {"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1},
    "oft": {"oft_block_size": 8},
}


@pytest.mark.parametrize("method", HALF_LEFT)
def test_what_is_trained_on_a_bf16_base_is_fp32(method: str, base: Path) -> None:
    half = config(
        method,
        base_precision="bf16",
        compute_precision="bf16",
        method_options=SMALL.get(method, {}),
    )
    tuned = start(half, base)
    assert {w.dtype for w in tuned.parameters() if w.requires_grad} == {torch.float32}
    ids = torch.arange(8)[None]
    with torch.autocast("cpu", torch.bfloat16):
        tuned(input_ids=ids, labels=ids).loss.backward()
    assert any(w.grad is not None and w.grad.any() for w in tuned.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_dora_refuses_eight_bits_where_they_cannot_be_undone(base: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: astraios[quant]")
    if torch.cuda.is_available():
        pytest.skip("a GPU can")
    with pytest.raises(MethodError, match=r"'dora'.*set base_precision to nf4 or bf16"):
        start(config("dora", base_precision="int8"), base)


@pytest.mark.parametrize("method", ["bitfit", "lntuning"])
def test_parts_of_a_bf16_base_are_not_trained_in_bf16(method: str, base: Path) -> None:
    with pytest.raises(MethodError, match="set compute_precision to bf16"):
        start(config(method, base_precision="bf16"), base)


def test_the_best_weights_of_adalora_keep_their_own_directions(base: Path) -> None:
    late = config("adalora", method_options={"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1})
    tuned, method = start(late, base), methods.method("adalora")
    scales = {n: w for n, w in tuned.named_parameters() if "lora_E" in n}
    with torch.no_grad():
        for weight in scales.values():
            weight.fill_(0.5)
    config_of = tuned.active_peft_config
    names = [n.removeprefix("base_model.model.") for n in scales]
    config_of.rank_pattern = {n: [True, *[False] * 5] for n in names}  # as the last step left it
    method.after_put_back(tuned)
    assert config_of.rank_pattern is None
    with torch.no_grad():
        next(iter(scales.values()))[3] = 0
    method.after_put_back(tuned)
    assert config_of.rank_pattern == {
        n: [at != 3 or n != names[0] for at in range(6)] for n in names
    }
