"""Models that several devices hold together: FSDP2, and the settings of DeepSpeed's ZeRO-3.

    fsdp2    every parameter, its gradient and its optimizer state are divided among the devices;
             one block at a time is put together to compute with
    zero3    the same by DeepSpeed, from `deepspeed/zero3.json`

What is computed is that of one device, and so are checkpoints: they hold whole tensors under the
same names, and a run can be taken up by another number of devices, sharded or not.
"""

from __future__ import annotations

import contextlib
import copy
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from astraios.errors import TrainingError
from astraios.files import storage
from astraios.methods import Method
from astraios.training import checkpoints
from astraios.training._parts import like, whole
from astraios.training._trainer import OurTrainer
from astraios.training.base import QUANTISED
from astraios.training.config import TrainingConfig
from astraios.training.processes import processes

ZERO3 = files("astraios.training") / "deepspeed" / "zero3.json"
_LAUNCHERS = {DistributedType.DEEPSPEED: "zero3", DistributedType.FSDP: None}
"""What accelerate can be told besides processes -> the sharding that it is the way to."""
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"
"""As the Trainer calls them in a checkpoint."""


def refuse(recipe: TrainingConfig, method: Method | None) -> None:
    """Refuse what cannot be sharded, before anything is read.

    Raises:
        TrainingError: with what to change.
    """
    launched = processes().distributed_type
    if launched in _LAUNCHERS and recipe.sharding != _LAUNCHERS[launched]:
        raise TrainingError(
            f"accelerate was told to use {launched.value} and the recipe has sharding "
            f"{recipe.sharding!r}; start it with torchrun, or as docs/training.md says for sharding"
        )
    if recipe.sharding == "none":
        return
    if recipe.base_precision in QUANTISED:
        raise TrainingError(
            f"a base in {recipe.base_precision} cannot be divided among devices by "
            f"{recipe.sharding}; set base_precision to bf16 or fp32, or sharding to none"
        )
    if getattr(method, "each_step", None) is not None:
        raise TrainingError(
            f"method {recipe.method!r} looks at all of its weights after every step, which devices "
            "that hold parts of them cannot; set sharding to none, or take another method"
        )
    if recipe.optimization.optimizer != "adamw":
        raise TrainingError(
            f"optimizer {recipe.optimization.optimizer!r} keeps blocks of states that cannot be "
            f"divided among devices by {recipe.sharding}; set optimization.optimizer to adamw"
        )
    if recipe.sharding == "zero3" and find_spec("deepspeed") is None:
        raise TrainingError(
            "sharding zero3 needs DeepSpeed; install it with: pip install deepspeed, "
            "or set sharding to fsdp2, which PyTorch brings along"
        )
    if recipe.sharding == "zero3" and launched != DistributedType.DEEPSPEED:
        raise TrainingError(
            "sharding zero3 is DeepSpeed's to begin; start the same command with: accelerate "
            f"launch --use_deepspeed --deepspeed_config_file {ZERO3} --num_processes N "
            "-m astraios ..."
        )
    if processes().num_processes == 1:
        raise TrainingError(
            f"sharding {recipe.sharding} divides a model among several devices and there is one "
            "process; start the same command with torchrun --nproc-per-node N, or set sharding to "
            "none"
        )


# --- FSDP2 ------------------------------------------------------------------------------------


def shard(model: nn.Module, how: str) -> Any:
    """A twin of `model` whose parameters are divided among all processes; `model` for `none`.

    The parameters of `model` itself are given up and come back by `gather`.
    """
    if how == "none":
        return model
    memory: dict[int, Any] = {id(p): p for p in model.parameters()}
    twin: Any = copy.deepcopy(model, memory)
    _replace(
        model, {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    )
    if how == "zero3":
        return twin  # DeepSpeed divides it when it takes it over
    mesh = init_device_mesh(processes().device.type, (processes().num_processes,))
    alone = _left_whole(twin)
    for parameter in alone:
        parameter.data = parameter.data.to(processes().device)
    for module in [*blocks(twin), twin]:
        # Divided again after every pass, so that whoever looks at parameters finds parts.
        divided: Any = fully_shard(
            module, mesh=mesh, reshard_after_forward=True, ignored_params=alone or None
        )
        if mesh.device_type == "cpu":
            divided.set_force_sum_reduction_for_comms(True)  # gloo has no mean
    for buffer in twin.buffers():
        buffer.data = buffer.data.to(processes().device)
    return twin


def gather(twin: nn.Module, model: nn.Module) -> None:
    """Give `model` what its `twin` was trained to: whole, on the CPU of the first process.

    Frozen parameters stay without memory, for they are the base's and are saved with no adapter;
    all but the input embeddings, by which an adapter remembers its base.
    """
    embeddings = {id(p) for p in twin.get_input_embeddings().parameters()}  # type: ignore[operator]
    own = dict(model.named_parameters())
    found = {}
    for name, parameter in twin.named_parameters():
        if parameter.requires_grad or id(parameter) in embeddings:
            tensor = whole(parameter)
            if processes().is_main_process:
                found[id(own[name])] = nn.Parameter(tensor.cpu(), parameter.requires_grad)
    _replace(model, found)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer: members of its longest list of modules of one class."""
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len({type(part) for part in module}) == 1
    ]
    return max(lists, key=len, default=[])


def _left_whole(model: nn.Module) -> set[nn.Parameter]:
    """Prompts: read by PEFT outside of any forward pass, and small."""
    encoder = getattr(model, "prompt_encoder", None)
    return set(encoder.parameters()) if isinstance(encoder, nn.Module) else set()


def _replace(model: nn.Module, by: dict[int, nn.Parameter]) -> None:
    """Put other parameters in the places of those whose ids are given, tied ones in all places."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in by:
                module._parameters[name] = by[id(parameter)]


class ShardedTrainer(OurTrainer):
    """Trains a model that `shard` has divided: it is wrapped in nothing, and saved whole."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # The Trainer's word for: the model itself divides its parameters and its gradients.
        self.is_distributed_loading_by_transformers = True

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """It is there already."""

    def _defer_fsdp_gradient_reduction(self) -> Any:
        return contextlib.nullcontext()  # gradients stay divided between accumulated parts, too

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Average the gradients of what is not divided, once a step."""
        n = processes().num_processes

        def average(parameter: torch.Tensor) -> None:
            if self.accelerator.sync_gradients and parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad.div_(n)

        alone: Any
        for alone in checkpoints.trainable(model).values():
            if not isinstance(alone, DTensor):
                alone.register_post_accumulate_grad_hook(average)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = self.optimizer.state_dict()
        state["state"] = {
            at: {
                name: whole(value) if torch.is_tensor(value) else value for name, value in s.items()
            }
            for at, s in state["state"].items()
        }
        if processes().is_main_process:
            with storage(Path(output_dir)):
                torch.save(state, Path(output_dir) / OPTIMIZER)
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint)
        saved = torch.load(path / OPTIMIZER, map_location="cpu", mmap=True, weights_only=True)
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        saved["state"] = {
            at: {
                name: like(weights[at], value) if _shaped(value, weights[at]) else value
                for name, value in state.items()
            }
            for at, state in saved["state"].items()
        }
        self.optimizer.load_state_dict(saved)
        self.lr_scheduler.load_state_dict(torch.load(path / SCHEDULER, weights_only=True))


def _shaped(value: Any, weight: torch.Tensor) -> bool:
    return torch.is_tensor(value) and value.dim() > 0 and value.shape == weight.shape


class ZeroTrainer(OurTrainer):
    """Trains by DeepSpeed, which keeps optimizer states its own way; weights are saved whole."""

    def __init__(self, *arguments: Any, optimizers: tuple[Any, Any], **named: Any) -> None:
        self._ours = optimizers
        super().__init__(*arguments, **named)

    def create_optimizer(self, model: Any = None) -> Any:
        """Ours: with DeepSpeed, the Trainer would make one of its own."""
        self.optimizer = self._ours[0]
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Ours likewise."""
        self.lr_scheduler = self._ours[1]
        return self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self._save(output_dir)


def trainer_of(recipe: TrainingConfig | None) -> type[OurTrainer]:
    """The trainer for a recipe."""
    how = "none" if recipe is None else recipe.sharding
    return {"none": OurTrainer, "fsdp2": ShardedTrainer, "zero3": ZeroTrainer}[how]
