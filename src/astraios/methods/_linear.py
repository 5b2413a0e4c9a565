"""What counts as a linear layer, whatever library quantised it."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

__all__ = ["linear_names", "linear_widths"]


def linear_widths(module: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer; None for any other module.

    Linear are `nn.Linear` (bitsandbytes and torchao layers are kinds of it), GPT-2's `Conv1D`, and
    quantised layers of other libraries, which have packed weights and name their widths.
    A layer that PEFT already wrapped counts as what it wraps.
    """
    while isinstance(getattr(module, "base_layer", None), nn.Module):
        module = module.base_layer  # type: ignore[assignment]
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(inputs), int(outputs)
    if any(isinstance(getattr(module, name, None), torch.Tensor) for name in ("qweight", "W_q")):
        for inputs, outputs in (("in_features", "out_features"), ("infeatures", "outfeatures")):
            if hasattr(module, inputs) and hasattr(module, outputs):
                return int(getattr(module, inputs)), int(getattr(module, outputs))
    return None


def linear_names(model: nn.Module) -> tuple[str, ...]:
    """Distinct last components of the names of the model's own linear layers, sorted.

    What lies inside a wrapped layer is the layer itself, or an adapter's.
    """
    found: set[str] = set()
    wrapped: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in wrapped):
            continue
        if linear_widths(module) is not None:
            found.add(name.rpartition(".")[2])
            wrapped.append(f"{name}.")
    return tuple(sorted(found - {"", "base_layer"}))
