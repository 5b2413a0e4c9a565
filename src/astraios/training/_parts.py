"""Tensors that devices hold parts of, as one; ordinary ones are left as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from astraios.training.processes import processes


def whole(tensor: Tensor) -> Tensor:
    """`tensor` put together; all processes have to ask for it, and the first has it on the CPU."""
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if processes().is_main_process else full


def put(parameter: nn.Parameter, tensor: Tensor) -> None:
    """Copy into `parameter` what is its part of the whole `tensor`."""
    with torch.no_grad():
        parameter.copy_(like(parameter, tensor))


def like(example: Tensor, tensor: Tensor) -> Tensor:
    """The whole `tensor` divided among devices as `example` is; all of them hold it already."""
    if not isinstance(example, DTensor):
        return tensor
    mesh: Any = example.device_mesh
    on_device = tensor.to(mesh.device_type)
    return distribute_tensor(on_device, mesh, example.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """What this device holds of `tensor`."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
