"""From a config and a model to the adapters of single modules, with all checks before any change.

Shared by the two PEFT models that hold bottleneck adapters: the tuner's own, and the one that
mixes adapters of several methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from astraios.errors import MethodError
from astraios.methods._bottleneck_config import BottleneckConfig
from astraios.methods._bottleneck_layer import BASE, AdapterPlan, BottleneckLayer
from astraios.methods._linear import linear_names, linear_widths
from astraios.methods._placement import PLACEMENTS, kind_of, placed

__all__ = ["cast_weights", "check_request", "put_in", "with_targets"]


def with_targets(
    config: BottleneckConfig, model_config: Mapping[str, Any], model: nn.Module | None = None
) -> BottleneckConfig:
    """The config with `target_modules` filled from its placement, if they are not given.

    Raises:
        MethodError: if the architecture is unknown; lists the linear layers of `model`.
    """
    if config.target_modules is None:
        name = config.placement
        if name is None:
            # As the original's tables have it; adapterp and parallel by their own switches.
            beside, single = config.use_parallel_adapter, config.use_adapterp
            name = "parallel" if beside else "adapterp" if single else "adapterh"
        names = () if model is None else linear_names(model)
        config.target_modules = set(placed(name, model_config.get("model_type"), names))
    return config


def check_request(
    model: nn.Module,
    config: BottleneckConfig,
    adapter_name: str,
    model_config: Mapping[str, Any],
    *,
    by_keys: bool = False,
) -> None:
    """Refuse an adapter that cannot be put in, before the first module is replaced.

    With `by_keys` the targets are those of a state dict's keys, and only the name is checked.

    Raises:
        MethodError: if the name or a target cannot be.
    """
    _check_name(adapter_name, model)
    config = with_targets(config, model_config, model)
    if not by_keys and config.target_modules != "all-linear":
        _check_targets(model, config)


def put_in(
    tuner: Any,
    config: BottleneckConfig,
    adapter_name: str,
    target: nn.Module,
    target_name: str,
    parent: nn.Module,
    path: str,
) -> None:
    """Put the adapter on `target`, by wrapping it unless it is wrapped already."""
    plan = _plan(config, path, target, tuner.get_model_config(tuner.model).get("model_type"))
    if isinstance(target, BottleneckLayer):
        target.update_layer(adapter_name, plan, inference_mode=config.inference_mode)
        return
    layer = BottleneckLayer(target, adapter_name, plan)
    if adapter_name not in tuner.active_adapters:
        layer.requires_grad_(False)  # a further adapter is not trained until it is set
    tuner._replace_module(parent, target_name, layer, target)


def cast_weights(model: nn.Module, config: BottleneckConfig, adapter_name: str) -> None:
    """Cast the adapter's matrices to the type its config asks for; PEFT made them fp32."""
    dtype = getattr(torch, config.adapter_dtype)
    if dtype == torch.float32:
        return
    for layer in _layers(model):
        if adapter_name in layer.plans:
            layer.adapter_down[adapter_name].to(dtype)
            layer.adapter_up[adapter_name].to(dtype)


def _plan(
    config: BottleneckConfig, path: str, module: nn.Module, model_type: str | None
) -> AdapterPlan:
    inputs, outputs = _widths(config, path, module)
    kind = kind_of(
        path,
        model_type=model_type,
        placement=config.placement,
        parallel=config.use_parallel_adapter,
        positions=config.positions,
    )
    reads = outputs if kind == "after" else inputs
    adds = inputs if kind == "before" else outputs
    size = config.bottleneck_size
    if config.reduction_factor is not None:
        size = max(1, int(reads / config.reduction_factor))
    size = config.bottleneck_pattern.get(get_pattern_key(config.bottleneck_pattern, path), size)
    scaling = config.scaling_pattern.get(
        get_pattern_key(config.scaling_pattern, path), config.scaling
    )
    return AdapterPlan(
        kind=kind,
        inputs=reads,
        outputs=adds,
        bottleneck=size,
        non_linearity=config.non_linearity,
        dropout=config.adapter_dropout,
        scaling=None if isinstance(scaling, str) else float(scaling),
        init=config.init_weights,
    )


def _widths(config: BottleneckConfig, path: str, module: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of an adaptable module.

    Raises:
        MethodError: if it is none.
    """
    widths = linear_widths(module)
    if widths is None and config.placement and PLACEMENTS[config.placement].whole_mlp:
        _check_nothing_inside(path, module)
        linears = [w for each in module.modules() if (w := linear_widths(each)) is not None]
        if linears:
            widths = linears[0][0], linears[-1][1]
    if widths is None:
        inner = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        raise MethodError(
            f"target {path!r} is a {type(inner).__name__}, and bottleneck adapters go on "
            "linear layers only; narrow target_modules or name it in exclude_modules"
        )
    return widths


def _check_nothing_inside(path: str, module: nn.Module) -> None:
    """Refuse to wrap a module that has adapters inside: their keys in a file would change.

    Raises:
        MethodError: naming the first of them.
    """
    if isinstance(module, BaseTunerLayer):
        return  # wrapped already, when nothing was inside
    inside = [name for name, each in module.named_modules() if isinstance(each, BaseTunerLayer)]
    if inside:
        raise MethodError(
            f"target {path!r} has an adapter inside, on {inside[0]!r}, which could not be saved "
            "and loaded any more; put the two adapters on models of their own"
        )


def _check_targets(model: nn.Module, config: BottleneckConfig) -> None:
    found = {
        name: module
        for name, module in model.named_modules()
        if name and check_target_module_exists(config, name) and not _inside(name, model)
    }
    if not found:
        raise MethodError(_no_match(model, config))
    for name, module in found.items():
        _widths(config, name, module)


def _no_match(model: nn.Module, config: BottleneckConfig) -> str:
    targets = config.target_modules
    listed = repr(targets) if isinstance(targets, str) else repr(sorted(targets or ()))
    for name, module in model.named_modules():
        plain = name.replace(".base_layer.", ".")
        if plain != name and linear_widths(module) and check_target_module_exists(config, plain):
            return (
                f"target_modules {listed} match {plain!r}, which lies inside a module that has an "
                "adapter as a whole already; put the two adapters on models of their own"
            )
    limits = [
        f"{field}={value!r}"
        for field in ("exclude_modules", "layers_to_transform", "layers_pattern")
        if (value := getattr(config, field)) is not None
    ]
    within = f" within {', '.join(limits)}" if limits else ""
    return (
        f"target_modules {listed} match nothing in {type(model).__name__}{within}; its linear "
        f"layers are: {', '.join(linear_names(model)) or 'none'}"
    )


def _inside(name: str, model: nn.Module) -> bool:
    """Whether the module lies within one that PEFT wrapped already."""
    parents = name.split(".")[:-1]
    return any(
        isinstance(model.get_submodule(".".join(parents[:n])), BaseTunerLayer)
        for n in range(1, len(parents) + 1)
    )


def _check_name(name: str, model: nn.Module) -> None:
    """Refuse names under which PEFT would mix up weights when it saves.

    Raises:
        MethodError: if the name is empty, has a dot, is a module's, or is reserved.
    """
    taken = {part for path, _ in model.named_modules() for part in path.split(".")}
    taken -= {part for layer in _layers(model) for part in layer.plans}  # adapters there already
    if not name or "." in name:
        raise MethodError(f"an adapter cannot be called {name!r}; use a name without dots")
    if name == BASE or hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name):
        raise MethodError(f"the adapter name {name!r} is reserved; choose another")
    if name in taken:
        raise MethodError(
            f"an adapter cannot be called {name!r}, because a module of the model is, and saved "
            "weights could not be told apart; choose another name"
        )


def _layers(model: nn.Module) -> Iterator[BottleneckLayer]:
    return (module for module in model.modules() if isinstance(module, BottleneckLayer))
