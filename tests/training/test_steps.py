"""What a step is made of: its rows, its precision and its loss, however it is divided."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from astraios import methods
from astraios.data import Row
from astraios.errors import TrainingError
from astraios.files import read_records
from astraios.progress import Progress, silent
from astraios.records import Cost, RunKind, Step
from astraios.runs import Run
from astraios.training import _trainer
from astraios.training.accounting import Operations
from astraios.training.batches import mean_loss
from astraios.training.config import Optimization
from astraios.training.fit import fit

pytestmark = pytest.mark.train

ROWS = [
    Row([(at * 7 + n) % 59 + 1 for at in range(n)], [*[-100] * 2, *range(1, n - 1)], list(range(n)))
    for n in (9, 5, 12, 7, 8, 6, 11, 10)
]
NOTHING = [Row(row.ids, [-100] * len(row.ids), row.positions) for row in ROWS]


def model() -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 60, "n_positions": 32}
    drops = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
    return GPTBigCodeForCausalLM(GPTBigCodeConfig(**sizes, **drops, use_cache=False))


def fitted(
    folder: Path,
    rows: list[Row],
    method: str = "fft",
    options: dict[str, Any] | None = None,
    progress: Progress = silent,
    **plan: Any,
) -> tuple[Any, Cost]:
    """The model after steps of four rows, and what they cost."""
    changes = {"n_steps": len(rows) // 4, "batch_size": 4, "learning_rate": 1e-2, "log_every": 1}
    wanted = Optimization(**{**changes, **plan})
    how = methods.method(method)
    tuned = how.apply(model(), options or {})
    with Run.open(folder, kind=RunKind.TRAIN, config=wanted) as run:
        return tuned, fit(tuned, rows, wanted, run, method=how, progress=progress)


def trained(
    folder: Path, rows: list[Row], method: str = "fft", **more: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of all steps, and the weights at the end."""
    tuned, _ = fitted(folder, rows, method, **more)
    steps = read_records(folder / "metrics.jsonl", Step)
    losses = [step.loss for step in steps if step.loss is not None]
    return losses, {name: p.detach() for name, p in tuned.named_parameters()}


def test_a_process_takes_the_rows_of_one_gpu_however_many_are_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def eight(self: Any) -> torch.device:
        self._n_gpu = 8
        return torch.device("cpu")

    devices = cached_property(eight)
    devices.__set_name__(_trainer.TrainingArguments, "_setup_devices")
    monkeypatch.setattr(_trainer.TrainingArguments, "_setup_devices", devices)
    plan = Optimization(n_steps=2, batch_size=8, rows_per_device=2, learning_rate=1e-3)
    made = _trainer.arguments(plan, tmp_path, 0, None)
    assert (made.n_gpu, made.train_batch_size, made.gradient_accumulation_steps) == (1, 2, 4)


def test_the_precision_is_the_recipes_and_not_the_launchers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, _ = trained(tmp_path / "plain", ROWS)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert trained(tmp_path / "launched", ROWS)[0] == losses


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss from all logits, as for models whose loss cannot be had from targets alone."""
    real = _trainer.probe
    monkeypatch.setattr(_trainer, "probe", lambda *given: replace(real(*given), loss=None))


# --- a penalty ----------------------------------------------------------------------------------

ADALORA = {
    "init_r": 3,
    "target_r": 2,
    "tinit": 1,
    "tfinal": 1,
    "total_step": 6,
    "orth_reg_weight": 2.0,
}


@pytest.mark.parametrize("loss", ["token-mean", "mean-of-means"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_penalty_counts_once_a_step_however_its_rows_are_divided(
    plain: bool, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (ROWS[:1] * 4 if loss == "mean-of-means" else ROWS) * 3
    more: dict[str, Any] = {"options": ADALORA, "loss": loss, "divergence": 1e6}
    if plain:
        plainly(monkeypatch)
    whole, weights = trained(tmp_path / "whole", rows, "adalora", **more)
    parts, same = trained(tmp_path / "parts", rows, "adalora", rows_per_device=1, **more)
    assert parts == pytest.approx(whole, abs=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(same[name], weight, rtol=0, atol=1e-3)


# --- no targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["token-mean", "mean-of-means"])
@pytest.mark.parametrize("rows_per_device", [1, 4])
@pytest.mark.parametrize("plain", [False, True])
def test_a_step_without_a_target_has_no_loss_and_no_gradient(
    plain: bool, rows_per_device: int, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        plainly(monkeypatch)
    more: dict[str, Any] = {"rows_per_device": rows_per_device, "loss": loss}
    losses, weights = trained(tmp_path / "run", NOTHING[:4] + ROWS[:4], **more)
    assert losses[0] == 0 < losses[1]
    alone, same = trained(tmp_path / "alone", NOTHING[:4], **more)
    assert alone == [0]
    for name, weight in model().named_parameters():
        assert torch.equal(same[name], weight)
        assert weights[name].isfinite().all()


@pytest.mark.parametrize("plain", [False, True])
def test_the_mean_of_means_is_that_of_the_parts_that_have_targets(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        plainly(monkeypatch)
    more: dict[str, Any] = {"rows_per_device": 1, "loss": "mean-of-means"}
    found, _ = trained(tmp_path / "some", [ROWS[0], NOTHING[1], NOTHING[2], ROWS[3]], **more)
    expected, _ = trained(tmp_path / "all", [ROWS[0], ROWS[3]], batch_size=2, n_steps=1, **more)
    assert found == pytest.approx(expected, abs=1e-5)


# --- interrupted --------------------------------------------------------------------------------


class Cut(BaseException):
    """Not an error that anything would catch."""


def cut(folder: Path, rows: list[Row], **plan: Any) -> None:
    """A run that ended in its third step, with checkpoints of the two before."""

    def progress(done: int, total: int, note: str) -> None:
        if done == 3:
            raise Cut

    with pytest.raises(Cut):
        fitted(folder, rows, progress=progress, save_every=1, **plan)


def test_losses_before_an_interruption_count_where_a_run_diverges(tmp_path: Path) -> None:
    low, high = sorted(ROWS, key=lambda row: mean_loss(model(), [row]))[:: len(ROWS) - 1]
    rows = [low] * 4 + [high] * 12
    plan = {"learning_rate": 1e-6, "divergence": 1.001, "n_steps": 4}
    cut(tmp_path / "run", rows, **plan)
    with pytest.raises(TrainingError, match=r"diverges: the loss is .* at step 3, after"):
        fitted(tmp_path / "run", rows, save_every=1, **plan)


def test_losses_that_fell_before_an_interruption_may_rise_again_after(tmp_path: Path) -> None:
    low, high = sorted(ROWS, key=lambda row: mean_loss(model(), [row]))[:: len(ROWS) - 1]
    rows = [high] * 4 + [low] * 8 + [high] * 8
    plan = {"learning_rate": 1e-6, "divergence": 1.001}
    cut(tmp_path / "run", rows, **plan)
    losses, _ = trained(tmp_path / "run", rows, save_every=1, **plan)
    assert len(losses) == 5


def test_operations_are_counted_in_the_first_step_of_a_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Operations] = []

    def counting() -> Operations:
        counted.append(Operations())
        return counted[-1]

    monkeypatch.setattr(_trainer, "Operations", counting)
    cut(tmp_path / "run", ROWS * 2)
    assert len(counted) == 1
    _, cost = fitted(tmp_path / "run", ROWS * 2, save_every=1)
    assert len(counted) == 1
    assert cost.flops == fitted(tmp_path / "whole", ROWS * 2, save_every=1)[1].flops
    assert len(counted) == 2 and cost.flops
