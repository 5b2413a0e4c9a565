"""What a training will be, before it begins: sizes, memory and time, from a few steps.

The steps are those the training begins with; what they leave is thrown away.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from astraios import methods, runs
from astraios.data import Row
from astraios.records import Record, RunKind, Step
from astraios.training._recorder import METRICS
from astraios.training._trainer import division
from astraios.training.accounting import weight_bytes
from astraios.training.base import load_base, prepared
from astraios.training.batches import Collator
from astraios.training.config import TrainingConfig
from astraios.training.fit import fit
from astraios.training.processes import processes
from astraios.training.tune import pad_id, training_rows

N_STEPS = 3
"""Steps that are timed; the first is left out, for it sets up what the others reuse."""
_MIB = 2**20


class Outlook(Record):
    """What will happen; memory is one device's."""

    method: str
    devices: int
    trainable_parameters: int
    total_parameters: int
    n_steps: int
    rows_per_step: int
    rows_per_device: int
    accumulation: int
    n_tokens: int
    """Tokens that will be seen, padding not counted."""
    epochs: float
    """How often each of the examples is seen."""
    weights_mib: float
    gradients_mib: float
    optimizer_mib: float
    activations_mib: float
    """What the largest part of a step keeps for its backward pass, logits included."""
    estimate_mib: float
    """The four together."""
    measured_mib: float
    """By how much the process grew over the steps that were tried, and the weights."""
    seconds: float
    """For all steps, at the pace of the last that were tried; validation is not in it."""


def outlook(
    config: TrainingConfig, base: Path | None = None, *, data_dir: Path | None = None
) -> Outlook:
    """Try a few steps of the training that `config` asks for, and write nothing.

    Raises:
        AstraiosError: what the training itself would raise at its start.
    """
    method = methods.method(config.method)
    model, tokenizer = load_base(
        base or config.base_model, config.revision, precision=config.base_precision
    )
    rows, _ = training_rows(config, tokenizer, data_dir)
    torch.manual_seed(config.seed)
    plan = config.optimization
    tuned = method.apply(
        prepared(model, config.base_precision),
        method.options_for(config.method_options, plan.n_steps),
    )
    n_devices = processes().num_processes
    per_device, accumulation = division(plan, n_devices)
    before = _resident()
    part = max(
        (rows[at : at + per_device] for at in range(0, len(rows), per_device)),
        key=lambda rows: len(rows) * max(len(row.ids) for row in rows),
    )
    pad = pad_id(tokenizer)
    activations = _kept(tuned, part, pad)
    weights = sum(p.numel() * p.element_size() for p in tuned.parameters())
    gradients = weight_bytes(tuned)
    states = 2 * gradients if plan.optimizer == "adamw" else gradients // 2
    tried = plan.model_copy(
        update={"n_steps": N_STEPS, "log_every": 1, "n_warmup_steps": 0, "save_every": 10**9}
    )
    with (
        tempfile.TemporaryDirectory() as scratch,
        runs.Run.open(Path(scratch) / "run", kind=RunKind.TRAIN, config=tried) as run,
    ):
        cost = fit(
            tuned,
            rows[: N_STEPS * plan.batch_size],
            tried,
            run,
            recipe=config,
            seed=config.seed,
            pad_id=pad,
            method=method,
        )
        paces = [step.tokens_per_s for step in run.read(METRICS, Step) if step.step > 1]
    n_tokens = sum(len(row.ids) for row in rows)
    return Outlook(
        method=config.method,
        devices=n_devices,
        trainable_parameters=cost.trainable_parameters,
        total_parameters=cost.total_parameters,
        n_steps=plan.n_steps,
        rows_per_step=plan.batch_size,
        rows_per_device=per_device,
        accumulation=accumulation,
        n_tokens=n_tokens,
        epochs=round(len(rows) / len({id(row) for row in rows}), 3),
        weights_mib=weights / _MIB,
        gradients_mib=gradients / _MIB,
        optimizer_mib=states / _MIB,
        activations_mib=activations / _MIB,
        estimate_mib=(weights + gradients + states + activations) / _MIB,
        measured_mib=max(0.0, cost.peak_mib - before) + weights / _MIB,
        seconds=n_tokens / max(mean(pace for pace in paces if pace), 1e-9),
    )


def _kept(model: Any, rows: list[Row], pad: int) -> int:
    """Bytes that the forward pass of `rows` keeps, each storage once, and its logits' gradient."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in Collator(pad)(rows).items()}
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(**inputs).logits
    return sum(found.values()) + int(logits.numel()) * 4


def _resident() -> float:
    """Memory of this process now, in MiB, or what the GPU holds for it."""
    if torch.cuda.is_available():
        return float(torch.cuda.memory_reserved()) / _MIB
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
