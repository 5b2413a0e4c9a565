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

from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.methods._architectures import ARCHITECTURES
from astraios.methods._bottleneck_layer import BASE, NO_MERGE, BottleneckLayer
from astraios.methods._bottleneck_plan import cast_weights, check_request, put_in, with_targets
from astraios.methods._placement import placed

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
        check_request(
            model,
            self.peft_config[adapter_name],
            adapter_name,
            self.get_model_config(model),
            by_keys=state_dict is not None,
        )
        if not self.active_adapters:  # all were deleted; PEFT cannot activate none of them
            self.active_adapter = adapter_name
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
        return with_targets(peft_config, model_config, model)

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
        put_in(self, peft_config, adapter_name, target, target_name, parent, current_key)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out; if it was the active one, the first that is left becomes active.

        PEFT asks the first adapted layer what is left, which knows only the adapters on itself.
        """
        was_active = adapter_name in self.active_adapters
        super().delete_adapter(adapter_name)
        if was_active and not self.active_adapters and self.peft_config:
            self.set_adapter(next(iter(self.peft_config)))

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype:
            cast_weights(self.model, self.peft_config[adapter_name], adapter_name)

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        super()._mark_only_adapters_as_trainable(model)
        frozen = all(self.peft_config[name].inference_mode for name in self.active_adapters)
        if frozen:  # PEFT thaws the biases of an adapter that was loaded for inference
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.requires_grad = False

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
        # PEFT passes the inputs of `generate` here, those of `forward` only to the model.
        _check_rows(self, args, kwargs, names=names)
        handles = [
            self.register_forward_pre_hook(partial(_check_rows, names=names), with_kwargs=True)
        ]
        handles += [
            module.register_forward_pre_hook(partial(_with_names, names=names), with_kwargs=True)
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


def _check_rows(
    _: nn.Module, args: Any, kwargs: Mapping[str, Any], *, names: Sequence[str]
) -> None:
    """Refuse another number of names than the batch has rows.

    Raises:
        MethodError: with both numbers.
    """
    given = (*args, *(kwargs.get(key) for key in ("inputs", "input_ids", "inputs_embeds")))
    batch = next((each for each in given if isinstance(each, Tensor)), None)
    if batch is not None and len(batch) != len(names):
        raise MethodError(
            f"adapter_names has {len(names)} names for a batch of {len(batch)} rows; "
            f"give one a row, {BASE!r} for rows without an adapter"
        )


def _with_names(
    _: nn.Module, args: Any, kwargs: dict[str, Any], *, names: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    # A layer sees more rows than the batch has where generation repeats each for its beams or
    # samples, and where a model lays the tokens of all rows one after the other (OPT's MLP). Either
    # way those of one row lie together.
    if args and isinstance(args[0], Tensor):
        repeats = max(1, len(args[0]) // len(names))
        names = [name for name in names for _ in range(repeats)]
    return args, {**kwargs, "adapter_names": names}
