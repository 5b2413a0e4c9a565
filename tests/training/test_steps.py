"""What a step is made of: its rows, its precision and its loss, however it is divided."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from astraios import methods
from astraios.data import Row
from astraios.files import read_records
from astraios.records import RunKind, Step
from astraios.runs import Run
from astraios.training import _trainer
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


def trained(
    folder: Path,
    rows: list[Row],
    method: str = "fft",
    options: dict[str, Any] | None = None,
    **plan: Any,
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of all steps of four rows, and the weights at the end."""
    changes = {"n_steps": len(rows) // 4, "batch_size": 4, "learning_rate": 1e-2, "log_every": 1}
    wanted = Optimization(**{**changes, **plan})
    tuned: Any = methods.method(method).apply(model(), options or {})
    with Run.open(folder, kind=RunKind.TRAIN, config=wanted) as run:
        fit(tuned, rows, wanted, run, method=methods.method(method))
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
