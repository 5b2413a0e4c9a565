"""Memory of one device in a training, from one part of a step: bytes of tensors, counted.

A part is computed forward and backward as the training does it, precision and checkpointing
included, and every tensor is counted from its making to its end. Nothing is trained.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from astraios.data import Row
from astraios.data.tokens import IGNORED
from astraios.records import Record
from astraios.training._lora import fused_lora
from astraios.training.accounting import weight_bytes
from astraios.training.batches import Collator
from astraios.training.config import TrainingConfig

_MIB = 2**20


class Memory(Record):
    """MiB of one device."""

    weights_mib: float
    gradients_mib: float
    optimizer_mib: float
    activations_mib: float
    """What a part of a step takes besides at its largest, until its backward pass is over."""
    estimate_mib: float
    """The four together; what libraries keep for themselves is not in it."""


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the tensors that are made inside and are still there; and the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [storage for storage in _storages(out) if id(storage) not in self._known]
        if made:
            given = {id(storage): storage for storage in _storages((args, kwargs))}
            for storage in made:
                if id(storage) not in given and id(storage) not in self._known:
                    self._count(storage)
        return out

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_: Any) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def _storages(values: Any) -> Iterator[Any]:
    """Of all tensors in `values`; PyTorch's own walk through trees is slower."""
    if isinstance(values, torch.Tensor):
        yield values.untyped_storage()
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _storages(value)
    elif isinstance(values, dict):
        yield from _storages(list(values.values()))


def estimate(
    model: Any,
    rows: Sequence[Row],
    config: TrainingConfig,
    *,
    pad_id: int = 0,
    n_parts: int = 1,
    n_devices: int = 1,
) -> Memory:
    """The memory that `model` is trained in on one of `n_devices`.

    Args:
        model: tuned by the method, on its device.
        rows: the largest part of a step.
        config: precision, checkpointing, optimizer and sharding.
        pad_id: fills rows.
        n_parts: how many parts a step accumulates.
        n_devices: among which a model is divided where `config.sharding` says so.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    gradients = weight_bytes(model)
    states = 2 * gradients if config.optimization.optimizer == "adamw" else gradients // 2
    held = n_devices if config.sharding != "none" else 1
    # Gradients are there from the first part on, and are counted with what the parts take.
    most = _peak(model, rows, config, pad_id, min(n_parts, 2)) - gradients + gradients // held
    if next(model.parameters()).is_cuda:
        most = max(most, 2 * gradients // held)  # the optimizer's own copy, of all at once
    if held > 1:
        most += 2 * _largest_block(model)  # one is put together while the next is fetched
    elif n_devices > 1:
        most += gradients  # the buckets that are averaged
    activations = max(0, most - gradients // held)
    parts = (weights // held, gradients // held, states // held, activations)
    return Memory(
        weights_mib=parts[0] / _MIB,
        gradients_mib=parts[1] / _MIB,
        optimizer_mib=parts[2] / _MIB,
        activations_mib=parts[3] / _MIB,
        estimate_mib=sum(parts) / _MIB,
    )


def _peak(
    model: Any, rows: Sequence[Row], config: TrainingConfig, pad_id: int, n_parts: int
) -> int:
    """The most bytes at a time, gradients included, over parts that are accumulated."""
    # Seconds to import, and estimates by shape do without.
    from astraios.training._trainer import OurTrainer, arguments

    use_cache, training = model.config.use_cache, model.training
    model.config.use_cache = False
    half = config.compute_precision == "bf16"
    with tempfile.TemporaryDirectory() as scratch:
        trainer = OurTrainer(
            model=model,
            args=arguments(config.optimization, Path(scratch), config.seed, config),
            data_collator=Collator(pad_id),
        )
    trainer.flops_per_token = 0.0  # they are not asked for
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        with fused_lora(model), Live() as live:
            for _ in range(n_parts):
                inputs = trainer.data_collator(rows)
                n_targets = (inputs["labels"] != IGNORED).sum().to(trainer.args.device)
                with torch.autocast(trainer.args.device.type, torch.bfloat16, enabled=half):
                    trainer.training_step(model, inputs, n_targets)
                del inputs
    finally:
        model.zero_grad(set_to_none=True)
        model.config.use_cache = use_cache
        model.train(training)
        if config.gradient_checkpointing:
            model.activation_checkpointing_disable()
    return int(live.peak)


def _largest_block(model: Any) -> int:
    """Bytes of the largest block; the same modules that are sharded one at a time."""
    from astraios.training.sharding import blocks

    sizes = (sum(p.numel() * p.element_size() for p in b.parameters()) for b in blocks(model))
    return max(sizes, default=0)
