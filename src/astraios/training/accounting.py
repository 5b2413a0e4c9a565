"""What training costs beside time: operations, memory on the device, energy of a GPU."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from astraios.training._parts import local
from astraios.training.checkpoints import trainable

_MIB = 2**20


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of what runs inside, on the first part of a step.

    Matrix products and attention, forward and backward, activations that are computed again
    included; the rest is not counted, which is customary. The formulas are PyTorch's. Its counter
    is not used: it leaves out attention on CPUs and holds tensors of all layers until the end,
    several times what checkpointing leaves.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._total = 0

    def get_total_flops(self) -> int:
        """Operations so far."""
        return self._total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self._total += int(flop_registry[packet](*args, **kwargs, out_val=out))
        elif packet == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self._total += _count(sdpa_flop_count, args[:3])
        elif packet == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward:
            self._total += _count(sdpa_backward_flop_count, args[:4])
        return out


def _count(formula: Any, tensors: Any) -> int:
    return int(formula(*(tensor.shape for tensor in tensors)))


@functools.lru_cache(maxsize=2)
def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of one device at products of large square matrices; the best of five."""
    size = 8192 if device.startswith("cuda") else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def weight_bytes(model: nn.Module, *, here: bool = False) -> int:
    """Bytes of the trainable tensors, and so of their gradients; `here`: this device's part."""
    return sum(_bytes(p, here) for p in trainable(model).values())


def state_bytes(optimizer: Any, *, here: bool = False) -> int:
    """Bytes of what the optimizer remembers; `here`: this device's part."""
    return sum(
        _bytes(value, here)
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )


def _bytes(tensor: torch.Tensor, here: bool) -> int:
    tensor = local(tensor) if here else tensor
    return tensor.numel() * tensor.element_size()


def peak_mib(resident_mib: float) -> float:
    """Peak memory reserved on the GPU; `resident_mib`, the process's, where there is none."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_reserved()) / _MIB
    return resident_mib


def peak_allocated_mib() -> float | None:
    """Peak memory of tensors on the GPU; None where there is none."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / _MIB
    return None
