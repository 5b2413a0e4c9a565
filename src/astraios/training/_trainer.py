"""`transformers.Trainer`, set up; the only file beside `fit.py` that knows it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from astraios import files
from astraios.errors import StorageError, TrainingError
from astraios.training import checkpoints
from astraios.training.accounting import Operations, state_bytes, weight_bytes
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.processes import processes

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
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=optimization.n_steps,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=n_accumulated,
        average_tokens_across_devices=True,
        train_sampling_strategy="sequential",
        max_grad_norm=optimization.clip,
        bf16=recipe is not None and recipe.compute_precision == "bf16",
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


class OurTrainer(Trainer):  # type: ignore[misc]
    """Checkpoints hold the trainable tensors by name instead of `save_pretrained` folders."""

    flops_per_token: float | None = None
    """Of what this process saw first, padding included on both sides."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        if self.flops_per_token is not None:
            return super().training_step(model, inputs, num_items_in_batch)
        n_tokens = inputs["input_ids"].numel()
        with Operations() as counted:
            loss = super().training_step(model, inputs, num_items_in_batch)
        self.flops_per_token = counted.get_total_flops() / n_tokens
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        checkpoints.save_weights(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_weights(model or self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_space()
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:  # torch's own words for a file that could not be written
            if "PytorchStreamWriter" not in str(error):
                raise
            raise StorageError(
                f"{self.args.output_dir}: the checkpoint could not be written ({error}); make "
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
