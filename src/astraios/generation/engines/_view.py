"""A second tree of modules over the weights of a loaded base, for one adapter to be put on.

A method changes its view as it likes, layers and hooks included, and the base never sees it: its
parameters are other objects over the same memory. Only weights that a method writes into, all with
full fine-tuning and the biases with BitFit, are copied for the view first.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from astraios import methods
from astraios.errors import MethodError
from astraios.methods import Method

__all__ = ["bits", "put_on", "view"]

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of an element."""


def put_on(model: nn.Module, method: str, adapter: Path) -> tuple[nn.Module, Method]:
    """A view of `model` with the adapter of folder `adapter` on it, and what tuned it.

    Raises:
        MissingDataError: if files are missing.
        MethodError: as `Method.load`, or if loading changed weights of `model` itself.
    """
    tuned_by = methods.method(method)
    before = bits(model)
    tuned = tuned_by.load(view(model, tuned_by), adapter)
    if bits(model) != before:
        raise MethodError(
            f"method {method!r} wrote into the weights of the shared base while it was loaded; "
            "load the base again, and open an engine of its own for this method"
        )
    return tuned, tuned_by


def view(model: nn.Module, method: Method) -> nn.Module:
    """A second tree of modules over the weights of `model`; what `method` overwrites is copied.

    Buffers are copied too: some models write into them while they run.
    """
    shared: dict[int, Any] = {}
    for name, weight in model.named_parameters():
        if type(weight) is not nn.Parameter:  # quantised: its class holds more than a tensor
            continue
        data = weight.detach()
        if method.overwrites(name):
            data = data.clone()
        shared[id(weight)] = nn.Parameter(data, requires_grad=weight.requires_grad)
    return copy.deepcopy(model, shared)  # takes what the memo has already


@torch.inference_mode()
def bits(model: nn.Module) -> int:
    """A sum over the bits of all weights: one pass over the memory, nothing copied."""
    total = 0
    for weight in model.parameters():
        flat = weight.detach().reshape(-1)
        total += int(flat.view(INTEGERS[flat.element_size()]).sum(dtype=torch.int64))
    return total
