"""Bottleneck adapters beside those of other methods in one model: PEFT's `PeftMixedModel`.

PEFT names the methods that can be mixed in constants of one module, and asks them by type there. So
this adds ours to the constants, and puts a subclass in the place of the model.

The adapter that was added last is the outermost: what it wraps, it takes as its layer. With LoRA
first, `after` reads the output with LoRA's part; with the bottleneck adapter first, LoRA reads the
input as it was before a `before` adapter changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peft.mixed_model
import peft.tuners.mixed
from peft.tuners.mixed import model as mixed
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.methods._bottleneck_config import BottleneckConfig
from astraios.methods._bottleneck_layer import NO_MERGE, BottleneckLayer
from astraios.methods._bottleneck_plan import cast_weights, check_request, put_in, with_targets

__all__ = ["BottleneckMixedModel", "join_mixed_models"]

PREFIX = "adapter_"


class BottleneckMixedModel(mixed.MixedModel):  # type: ignore[misc]
    """PEFT's model of mixed adapters, which also takes bottleneck adapters."""

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Check a bottleneck adapter against `model`, then put in what was asked for.

        Raises:
            MethodError: if the name or a target cannot be; `model` is untouched.
        """
        config = self.peft_config[adapter_name]
        if isinstance(config, BottleneckConfig):
            check_request(model, config, adapter_name, self.get_model_config(model))
        super().inject_adapter(
            model,
            adapter_name,
            autocast_adapter_dtype=autocast_adapter_dtype,
            low_cpu_mem_usage=low_cpu_mem_usage,
            state_dict=state_dict,
        )

    @staticmethod
    def _prepare_adapter_config(peft_config: Any, model_config: Mapping[str, Any]) -> Any:
        if isinstance(peft_config, BottleneckConfig):
            return with_targets(peft_config, model_config)
        return mixed.MixedModel._prepare_adapter_config(peft_config, model_config)

    def _create_and_replace(
        self,
        config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **more: Any,
    ) -> None:
        if isinstance(config, BottleneckConfig):
            put_in(self, config, adapter_name, target, target_name, parent, current_key)
            return
        super()._create_and_replace(
            config, adapter_name, target, target_name, parent, current_key=current_key, **more
        )

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        config = self.peft_config[adapter_name]
        if autocast_adapter_dtype and isinstance(config, BottleneckConfig):
            cast_weights(self.model, config, adapter_name)

    def _check_merge_allowed(self) -> None:
        if any(isinstance(config, BottleneckConfig) for config in self.peft_config.values()):
            raise MethodError(NO_MERGE)
        super()._check_merge_allowed()

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **more: Any) -> Any:
        if merge:
            self._check_merge_allowed()  # PEFT would merge some layers before it meets ours
        return super()._unload_and_optionally_merge(merge, *args, **more)


def join_mixed_models() -> None:
    """Let `PeftMixedModel` take bottleneck adapters; called once, by the registration."""
    kinds = (*mixed.COMPATIBLE_TUNER_TYPES, peft.PeftType("BOTTLENECK"))
    configs, layers = mixed.Configs | BottleneckConfig, (*mixed.Layers, BottleneckLayer)
    mixed.PREFIXES.append(PREFIX)
    mixed.Configs, mixed.Layers = configs, layers
    mixed.COMPATIBLE_TUNER_TYPES = peft.tuners.mixed.COMPATIBLE_TUNER_TYPES = kinds
    peft.mixed_model.MixedModel = BottleneckMixedModel
