"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from astraios.errors import TrainingError
from astraios.training.checkpoints import trainable
from astraios.training.config import Optimization

_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}


def optimizer_of(model: nn.Module, optimization: Optimization) -> Optimizer:
    """AdamW over what is trainable; tensors of one axis (biases, norms) are not decayed.

    Raises:
        TrainingError: if an 8-bit optimizer is asked for and bitsandbytes is not installed.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in trainable(model).values():
        groups[parameter.ndim > 1].append(parameter)
    decayed = [
        {"params": groups[True], "weight_decay": optimization.weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    made: Any = AdamW
    if optimization.optimizer != "adamw":
        if find_spec("bitsandbytes") is None:
            raise TrainingError(
                f"optimizer {optimization.optimizer!r} needs bitsandbytes; install it with: "
                "pip install 'astraios[quant]', or set optimization.optimizer to adamw"
            )
        made = getattr(import_module("bitsandbytes.optim"), _BITSANDBYTES[optimization.optimizer])
    found: Optimizer = made(
        [group for group in decayed if group["params"]],
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        eps=optimization.epsilon,
    )
    return found


def schedule(optimizer: Optimizer, optimization: Optimization) -> LambdaLR:
    """The learning-rate schedule, from transformers."""
    n, warmup = optimization.n_steps, optimization.n_warmup_steps
    if optimization.schedule == "cosine":
        made = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, n, min_lr_rate=optimization.floor
        )
    elif optimization.schedule == "linear":
        made = get_linear_schedule_with_warmup(optimizer, warmup, n)
    elif optimization.schedule == "constant":
        made = get_constant_schedule_with_warmup(optimizer, warmup)
    else:
        made = get_wsd_schedule(
            optimizer,
            num_warmup_steps=warmup,
            num_decay_steps=n - max(warmup, round(n * optimization.flat)),
            num_training_steps=n,
            decay_type="linear",
            min_lr_ratio=optimization.floor,
        )
    return made  # type: ignore[no-any-return]
