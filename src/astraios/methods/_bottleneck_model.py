"""Bottleneck adapters as a PEFT tuner: which modules get one, and how they are saved.

Everything is checked before the first module is replaced, so that a refused adapter leaves the
model as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.methods._architectures import ARCHITECTURES
from astraios.methods._bottleneck_config import BottleneckConfig
from astraios.methods._bottleneck_layer import BASE, NO_MERGE, AdapterPlan, BottleneckLayer
from astraios.methods._linear import linear_names, linear_widths
from astraios.methods._placement import PLACEMENTS, kind_of, placed

__all__ = ["BottleneckModel"]

_PREFIX = "base_model.model."


class BottleneckModel(BaseTuner):  # type: ignore[misc]
    """The model with bottleneck adapters in it; made by `get_peft_model`."""

    prefix = "adapter_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = MappingProxyType(
        {name: tuple(placed("adapterh", name)) for name in ARCHITECTURES}
    )

    # --- putting adapters in ------------------------------------------------------------------

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Check the whole request against `model`, then put the adapters in.

        Raises:
            MethodError: if the name or a target cannot be; `model` is untouched.
        """
        config = self.peft_config[adapter_name]
        _check_name(adapter_name, model)
        config = self._prepare_adapter_config(config, self.get_model_config(model), model)
        if state_dict is None and config.target_modules != "all-linear":
            self._check_targets(config, model)
        super().inject_adapter(
            model,
            adapter_name,
            autocast_adapter_dtype=autocast_adapter_dtype,
            low_cpu_mem_usage=low_cpu_mem_usage,
            state_dict=state_dict,
        )

    def _prepare_adapter_config(
        self, peft_config: Any, model_config: Mapping[str, Any], model: nn.Module | None = None
    ) -> Any:
        if peft_config.target_modules is None:
            if peft_config.placement is None:
                # As the original's tables have it; adapterp and parallel by their own switches.
                beside, single = peft_config.use_parallel_adapter, peft_config.use_adapterp
                name = "parallel" if beside else "adapterp" if single else "adapterh"
            else:
                name = peft_config.placement
            names = () if model is None else linear_names(model)
            peft_config.target_modules = set(placed(name, model_config.get("model_type"), names))
        return peft_config

    def _check_targets(self, config: Any, model: nn.Module) -> None:
        found = {
            name: module
            for name, module in model.named_modules()
            if name and self._check_target_module_exists(config, name) and not _inside(name, model)
        }
        if not found:
            limits = [
                f"{field}={value!r}"
                for field in ("exclude_modules", "layers_to_transform", "layers_pattern")
                if (value := getattr(config, field)) is not None
            ]
            within = f" within {', '.join(limits)}" if limits else ""
            raise MethodError(
                f"target_modules {_listed(config.target_modules)} match nothing in "
                f"{type(model).__name__}{within}; its linear layers are: "
                f"{', '.join(linear_names(model)) or 'none'}"
            )
        for name, module in found.items():
            self._widths(config, name, module)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        plan = self._plan(peft_config, current_key, target)
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, plan, inference_mode=peft_config.inference_mode)
            return
        layer = BottleneckLayer(target, adapter_name, plan)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # a further adapter is not trained until it is set
        self._replace_module(parent, target_name, layer, target)

    def _plan(self, config: BottleneckConfig, path: str, module: nn.Module) -> AdapterPlan:
        inputs, outputs = self._widths(config, path, module)
        kind = kind_of(
            path,
            model_type=self.get_model_config(self.model).get("model_type"),
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

    @staticmethod
    def _widths(config: BottleneckConfig, path: str, module: nn.Module) -> tuple[int, int]:
        """Inputs and outputs of an adaptable module.

        Raises:
            MethodError: if it is none.
        """
        widths = linear_widths(module)
        if widths is None and config.placement and PLACEMENTS[config.placement].whole_mlp:
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

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        super()._mark_only_adapters_as_trainable(model)
        frozen = all(self.peft_config[name].inference_mode for name in self.active_adapters)
        if frozen:  # PEFT thaws the biases of an adapter that was loaded for inference
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.requires_grad = False

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        dtype = getattr(torch, self.peft_config[adapter_name].adapter_dtype)
        if not autocast_adapter_dtype or dtype == torch.float32:
            return
        for layer in self.model.modules():
            if isinstance(layer, BottleneckLayer) and adapter_name in layer.plans:
                layer.adapter_down[adapter_name].to(dtype)
                layer.adapter_up[adapter_name].to(dtype)

    def _check_merge_allowed(self) -> None:
        raise MethodError(NO_MERGE)

    # --- one adapter a row --------------------------------------------------------------------

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Hand `adapter_names` to every layer while the block runs."""
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        if self.training:
            raise MethodError("adapter_names is for inference; call model.eval() first")
        unknown = sorted({*names} - {*self.peft_config, BASE})
        if unknown:
            raise MethodError(
                f"adapter_names has {unknown[0]!r}, which is not loaded; loaded: "
                f"{', '.join(self.peft_config)} ({BASE!r} for none)"
            )
        beams = kwargs.get("num_beams")
        if isinstance(beams, int) and beams > 1:  # generation repeats every row for its beams
            names = [name for name in names for _ in range(beams)]
        block = ARCHITECTURES.get(self.get_model_config(self.model).get("model_type", ""))
        put_in = partial(_with_names, names=names, flattens=block is not None and block.flattens)
        handles = [
            module.register_forward_pre_hook(put_in, with_kwargs=True)
            for module in self.modules()
            if isinstance(module, BottleneckLayer | AuxiliaryTrainingWrapper)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # --- saving: a wrapped layer's bias is `<layer>.bias` in a file, as the original wrote it ---

    @classmethod
    def _get_learnable_bias_state_dict(
        cls, model: nn.Module, state_dict: dict[str, Tensor], config: Any
    ) -> dict[str, Tensor]:
        found = super()._get_learnable_bias_state_dict(model, state_dict, config)
        in_file = {inside: outside for outside, inside in _bias_keys(model)}
        return {in_file.get(key, key): value for key, value in found.items()}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        in_model = dict(_bias_keys(model))
        in_model |= {_PREFIX + outside: inside for outside, inside in in_model.items()}
        renamed = {in_model.get(key, key): value for key, value in state_dict.items()}
        remapped: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, renamed
        )
        _check_keys(model, adapter_name, remapped)
        return remapped


def _bias_keys(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Key in a file and key in the model of each adapted layer's bias."""
    for name, module in model.named_modules():
        if isinstance(module, BottleneckLayer) and getattr(module, "bias", None) is not None:
            inside, layer = name, cast("nn.Module", module)
            while isinstance(getattr(layer, "base_layer", None), nn.Module):
                inside, layer = f"{inside}.base_layer", cast("nn.Module", layer.base_layer)
            yield f"{name}.bias", f"{inside}.bias"


def _check_keys(model: nn.Module, adapter_name: str, state: Mapping[str, Tensor]) -> None:
    """Refuse a file that does not fill the adapter exactly; PEFT would warn at most.

    Raises:
        MethodError: naming the first key that is missing or unexpected.
    """
    parts = BottleneckLayer.adapter_layer_names
    expected = {
        f"{name}.{part}.{key}"
        for name, layer in model.named_modules()
        if isinstance(layer, BottleneckLayer)
        for part in parts
        for key in getattr(layer, part).state_dict()
        if key.split(".")[0] == adapter_name
    }
    found = {key for key in state if any(f".{part}." in f"{key}." for part in parts)}
    for what, keys in (("missing", expected - found), ("unexpected", found - expected)):
        if keys:
            raise MethodError(
                f"the weights do not fit adapter {adapter_name!r}: {len(keys)} {what} (first: "
                f"{min(keys)}); they are for another base model or config, or were changed"
            )


def _with_names(
    module: nn.Module, args: Any, kwargs: dict[str, Any], *, names: Sequence[str], flattens: bool
) -> tuple[Any, dict[str, Any]]:
    if flattens and args and args[0].dim() == 2:
        n_tokens = len(args[0]) // len(names)
        names = [name for name in names for _ in range(n_tokens)]
    return args, {**kwargs, "adapter_names": names}


def _inside(name: str, model: nn.Module) -> bool:
    """Whether the module lies within one that PEFT wrapped already."""
    parents = name.split(".")[:-1]
    return any(
        isinstance(model.get_submodule(".".join(parents[:n])), BaseTunerLayer)
        for n in range(1, len(parents) + 1)
    )


def _listed(targets: Any) -> str:
    return repr(targets) if isinstance(targets, str) else repr(sorted(targets))


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
