"""Tensors that devices hold parts of, as one; ordinary ones are left as they are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from astraios.training.processes import processes


def whole(tensor: Tensor) -> Tensor:
    """`tensor` put together; all processes have to ask for it, and the first has it on the CPU."""
    if hasattr(tensor, "ds_id"):
        return _from_deepspeed(tensor)
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if processes().is_main_process else full


def _from_deepspeed(parameter: Any) -> Tensor:
    """What ZeRO-3 has divided: the fp32 that is trained where there is one, else the weight."""
    zero, utils = import_module("deepspeed").zero, import_module("deepspeed.utils")
    trained: Tensor | None = utils.safe_get_full_fp32_param(parameter)
    if trained is not None:
        return trained.detach().cpu()
    with zero.GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()  # type: ignore[no-any-return]


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
