"""`transformers.Trainer`, set up; the only file beside `fit.py` that knows it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainingArguments

from astraios import files
from astraios.config import environment
from astraios.data.tokens import IGNORED
from astraios.errors import StorageError, TrainingError
from astraios.training import checkpoints
from astraios.training._lora import fused_lora
from astraios.training._loss import Probe, TargetLoss, probe
from astraios.training.accounting import Operations, state_bytes, weight_bytes
from astraios.training.batches import AT_ONCE, Collator
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.processes import mean_of, processes

_LOG = logging.getLogger(__name__)
_NOT_WRITTEN = ("PytorchStreamWriter", "inline_container", "iostream error")
_SLACK = 1.05
"""File headers, the schedule and random states beside the tensors of a checkpoint."""


def arguments(
    optimization: Optimization, folder: Path, seed: int, recipe: TrainingConfig | None
) -> TrainingArguments:
    """What the Trainer is told; nothing that matters is left to its defaults.

    Raises:
        TrainingError: if a step's rows cannot be divided evenly among the devices.
    """
    per_device, n_accumulated = division(optimization, processes().num_processes)
    gpu = torch.cuda.is_available()
    bf16 = recipe is not None and recipe.compute_precision == "bf16"
    # Whatever precision accelerate's launcher left in the environment, it is the recipe's.
    with environment("ACCELERATE_MIXED_PRECISION", "bf16" if bf16 else "no"):
        made = TrainingArguments(
            output_dir=str(folder),
            max_steps=optimization.n_steps,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=n_accumulated,
            average_tokens_across_devices=True,
            train_sampling_strategy="sequential",
            max_grad_norm=optimization.clip,
            bf16=bf16,
            activation_checkpointing=recipe is not None and recipe.gradient_checkpointing,
            activation_checkpointing_kwargs={"use_reentrant": False},
            logging_strategy="steps",
            logging_steps=optimization.log_every,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=optimization.save_every,
            save_total_limit=2,
            seed=seed,
            data_seed=seed,
            remove_unused_columns=False,
            dataloader_pin_memory=gpu,
            ddp_find_unused_parameters=False,
            disable_tqdm=True,
            report_to="none",
            use_cpu=not gpu,
        )
    # A process drives one GPU: more that are visible would each take `per_device` rows.
    made._n_gpu = min(1, made.n_gpu)
    return made


def division(optimization: Optimization, n_devices: int) -> tuple[int, int]:
    """Rows a device takes at a time, and how often before a step.

    Raises:
        TrainingError: if it does not come out even.
    """
    size = optimization.batch_size
    per_device = optimization.rows_per_device or max(1, size // n_devices)
    if size % (per_device * n_devices):
        raise TrainingError(
            f"optimization.batch_size {size} cannot be divided among {n_devices} device(s) that "
            f"take {per_device} row(s) at a time; set rows_per_device to a divisor of "
            f"{size / n_devices:g}, or change batch_size"
        )
    return per_device, size // (per_device * n_devices)


def arrange(
    collator: Collator, model: torch.nn.Module, autocast: torch.dtype | None = None
) -> Probe:
    """Choose how rows become parts of a step, and the loss of those where it can be chosen.

    Documents are computed apart unless a forward pass does something once: adds to the loss, or
    puts together what is divided among devices.
    """
    found = probe(model, autocast)
    if found.loss is None:
        _LOG.warning(
            "the loss is computed from all logits of %s, since %s; it takes more memory",
            type(model).__name__,
            found.why_not,
        )
    divided = any(isinstance(weight, DTensor) for weight in model.parameters())
    collator.apart = not divided and not found.adds
    collator.at_once = None if torch.cuda.is_available() else AT_ONCE
    return found


class OurTrainer(Trainer):  # type: ignore[misc]
    """Checkpoints hold the trainable tensors by name instead of `save_pretrained` folders.

    Documents are computed apart and in parts, the loss from targets alone and LoRA in fewer passes
    where model and devices allow that; sums, and so losses, are the same.
    """

    flops_per_token: float | None = None
    """Of the first step of the run; what padding costs is in it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._target: TargetLoss | None = None
        self._share = self._even = 1.0
        # DeepSpeed puts the model together later, and does so whenever a layer is called.
        self._as_called = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        self._adds = self._as_called
        if not self._as_called and isinstance(self.data_collator, Collator):
            autocast = torch.bfloat16 if self.args.bf16 else None
            found = arrange(self.data_collator, self.model, autocast)
            self._target, self._adds = found.loss, found.adds

    def train(self, *arguments: Any, **named: Any) -> Any:
        with contextlib.nullcontext() if self._as_called else fused_lora(self.model):
            return super().train(*arguments, **named)

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], Any]:
        """Parts without a target count for nothing, and a step without one has a loss of 0."""
        samples, n_targets = super().get_batch_samples(*arguments)
        if torch.is_tensor(n_targets):
            return samples, n_targets.clamp(min=1)
        if not self.model_accepts_loss_kwargs:
            counted = [float((some["labels"] != IGNORED).any()) for some in samples]
            self._even = 1 / max(mean_of(sum(counted) / max(len(counted), 1)), 1e-6)
        return samples, n_targets

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        if self.flops_per_token is not None:
            return self._step(model, inputs, num_items_in_batch)
        n_tokens = inputs.get("n_tokens") or inputs["input_ids"].numel()
        with Operations() as counted:
            loss = self._step(model, inputs, num_items_in_batch)
        self.flops_per_token = counted.get_total_flops() / n_tokens
        return loss

    def _step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Any:
        """One forward and backward pass for each part; gradients are exchanged after the last."""
        parts = inputs.get("parts") or [inputs]
        shares = [1.0] * len(parts)
        if not self.model_accepts_loss_kwargs and len(parts) > 1:  # a part's loss is its mean
            counts = [int((part["labels"] != IGNORED).sum()) for part in parts]
            parts = [part for part, n in zip(parts, counts, strict=True) if n] or parts[:1]
            shares = [n / sum(counts) for n in counts if n] or [1.0]
        if not self.model_accepts_loss_kwargs:
            shares = [share * self._even for share in shares]
            if not (parts[0]["labels"] != IGNORED).any():  # the mean of nothing is no number
                parts, shares = [{**parts[0], "labels": parts[0]["input_ids"]}], [0.0]
        loss: Any = 0.0
        for at, (part, share) in enumerate(zip(parts, shares, strict=True)):
            self._share = share
            with contextlib.ExitStack() as stack:
                if at < len(parts) - 1:
                    stack.enter_context(self.accelerator.no_sync(model))
                loss = loss + super().training_step(model, part, num_items_in_batch)
        return loss

    def compute_loss(
        self, model: Any, inputs: Any, *more: Any, num_items_in_batch: Any = None, **named: Any
    ) -> Any:
        weight, n = self._share, num_items_in_batch
        if self._adds and self.model_accepts_loss_kwargs and n is not None:
            # Every pass adds all of the model's own: each counts as its part of a step's passes,
            # which the number of targets that the cross-entropy is divided by makes up for.
            n_passes = self.args.gradient_accumulation_steps * self.args.world_size
            weight, n = weight / n_passes, n / n_passes
        with self._target or contextlib.nullcontext():
            loss = super().compute_loss(model, inputs, *more, num_items_in_batch=n, **named)
        return weight * loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not the Trainer's estimate: see `flops_per_token`."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        checkpoints.save_weights(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_weights(model or self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_space()
        try:
            with files.storage(Path(self.args.output_dir)):
                super()._save_checkpoint(model, trial)
        except RuntimeError as error:  # torch's own words for a file that could not be written
            if not any(word in str(error) for word in _NOT_WRITTEN):
                raise
            raise StorageError(
                f"{self.args.output_dir}: a checkpoint cannot be written ({error}); make "
                "room and run the same command again, which goes on from the last whole one"
            ) from error

    def _check_space(self) -> None:
        """Refuse to begin a checkpoint that will not fit.

        Raises:
            StorageError: with what is needed and what is free.
        """
        folder = Path(self.args.output_dir)
        with files.storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        needed = int(_SLACK * (weight_bytes(self.model) + state_bytes(self.optimizer)))
        if needed > free:
            raise StorageError(
                f"{folder}: a checkpoint needs {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} "
                "MiB are free; make room and run the same command again, which goes on from the "
                "last whole checkpoint"
            )


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device or the machine has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def what_to_lower(step: int, optimization: Optimization, peak_mib: float) -> TrainingError:
    """The error of a run that ran out of memory."""
    per_device, _ = division(optimization, processes().num_processes)
    less = f"rows_per_device (now {per_device})" if per_device > 1 else "block_length"
    return TrainingError(
        f"out of memory at step {step} with {peak_mib:,.0f} MiB in use; lower {less}, set "
        "gradient_checkpointing: true, or take base_precision bf16, int8 or nf4"
    )
