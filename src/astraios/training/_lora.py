"""LoRA's layers in fewer passes over memory, while they train.

PEFT computes `y = base(x)`, `z = B(A(dropout(x)))`, `z * scaling` and `y + z` one after the other,
in the type of A and B. Here the product with B is added to `y` as it is computed, backwards the one
with A likewise, and under autocast `x` is not cast to the type of the weights and back again:

    y  = x W' + b,    h = x A',     y  += s h B'
    dx = g W,         gh = s g B,   dx += gh A,      dA = gh' x,    dB = s g' h

The products are the same and what is rounded is the same sums. Layers that are more than this (DoRA
and other variants, quantised bases, several adapters) are left to PEFT, and so is evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_FORWARD = "forward"
_LAYER = ("peft.tuners.lora.layer", "Linear")
"""Where the class of plain layers is; what trains need not have PEFT."""


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[int]:
    """Train the plain LoRA layers of `model` like this; gives how many there are."""
    layers = [module for module in model.modules() if _is_plain(module)]
    for layer in layers:
        setattr(layer, _FORWARD, _forward_of(layer))
    try:
        yield len(layers)
    finally:
        for layer in layers:
            delattr(layer, _FORWARD)


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer is a linear one with one LoRA of the original form."""
    if (type(module).__module__, type(module).__name__) != _LAYER or _FORWARD in module.__dict__:
        return False
    layer: Any = module
    if len(layer.active_adapters) != 1 or layer.fan_in_fan_out:
        return False
    name = layer.active_adapters[0]
    if name not in layer.lora_A or name in layer.lora_variant:
        return False
    base, a, b = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    return (
        all(_is_linear(part) for part in (base, a, b))
        and a.bias is None
        and b.bias is None
        and not any(weight.requires_grad for weight in base.parameters())
    )


def _is_linear(module: nn.Module) -> bool:
    """Whether calling a module is the product with its weight and nothing else."""
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and _FORWARD not in module.__dict__
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def _forward_of(layer: Any) -> Any:
    plain, base, name = layer.forward, layer.base_layer, layer.active_adapters[0]
    a, b, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]

    def forward(x: Tensor, *more: Any, **named: Any) -> Tensor:
        auto = torch.is_autocast_enabled(x.device.type)
        types = {x.dtype, base.weight.dtype, a.weight.dtype}
        if (
            more
            or named
            or not layer.training
            or layer.disable_adapters
            or layer.merged
            or (len(types) > 1 and not auto)
        ):
            plainly: Tensor = plain(x, *more, **named)
            return plainly
        dropped = None if isinstance(dropout, nn.Identity) else dropout(x)
        found: Tensor = _Fused.apply(  # type: ignore[no-untyped-call]
            x, dropped, base.weight, base.bias, a.weight, b.weight, layer.scaling[name]
        )
        return found

    return forward


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_RI: Tensor,
        b_OR: Tensor,
        scaling: float,
    ) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        weight, a, b = (tensor.to(dtype) for tensor in (weight_OI, a_RI, b_OR))
        with torch.autocast(kind, enabled=False):
            x_NI = x.to(dtype).flatten(0, -2)
            seen_NI = x_NI if dropped is None else dropped.to(dtype).flatten(0, -2)
            bias = None if bias_O is None else bias_O.to(dtype)
            y_NO = nn.functional.linear(x_NI, weight, bias)
            h_NR = seen_NI @ a.t()
            y_NO.addmm_(h_NR, b.t(), alpha=scaling)
        ctx.save_for_backward(seen_NI, weight, a, b, h_NR)
        ctx.scaling, ctx.shape, ctx.of = scaling, x.shape, (x.dtype, a_RI.dtype, b_OR.dtype)
        ctx.apart = dropped is not None
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        seen_NI, weight, a, b, h_NR = ctx.saved_tensors
        of_x, of_a, of_b = ctx.of
        kind = seen_NI.device.type
        with torch.autocast(kind, enabled=False):
            g_NO = gradients[0].to(seen_NI.dtype).flatten(0, -2)
            gh_NR = (g_NO @ b).mul_(ctx.scaling)
            b_grad = (g_NO.t() @ h_NR).mul_(ctx.scaling).to(of_b)
            a_grad = (gh_NR.t() @ seen_NI).to(of_a)
            x_grad = dropped_grad = None
            if ctx.needs_input_grad[0]:
                found_NI = g_NO @ weight
                if ctx.apart:
                    dropped_grad = (gh_NR @ a).view(ctx.shape).to(of_x)
                else:
                    found_NI.addmm_(gh_NR, a)
                x_grad = found_NI.view(ctx.shape).to(of_x)
        return x_grad, dropped_grad, None, None, a_grad, b_grad, None
