"""A module with bottleneck adapters around it.

    delta(z) = W_up f(W_down drop(z))

    before     y = W(x + s * delta(x))
    after      y = W(x) + s * delta(W(x))
    parallel   y = W(x) + s * delta(x)

Axes: B batch, T tokens, M bottleneck, I and O inputs and outputs of the adapted module.

Types: `delta` is computed in the type of the adapter's weights (fp32 unless asked otherwise), cast
back to the type of the stream it joins, then scaled and added there: what the original computes.
A learned scaling is applied before the cast back, because it would lose its low bits after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.activations import ACT2FN

from astraios.errors import MethodError
from astraios.methods._placement import Kind

__all__ = ["NO_MERGE", "AdapterPlan", "BottleneckLayer"]

BASE = "__base__"
"""PEFT's name for "no adapter" in a mixed batch."""

NO_MERGE = (
    "bottleneck adapters are not linear, so they cannot be merged into the base weights; keep "
    "them beside the base model (PeftModel.from_pretrained), or train LoRA where merging matters"
)


@dataclass(frozen=True)
class AdapterPlan:
    """What one adapter of one module is made of."""

    kind: Kind
    inputs: int
    """Width of what the adapter reads."""
    outputs: int
    """Width of what it adds to."""
    bottleneck: int
    non_linearity: str
    dropout: float
    scaling: float | None
    """None: learned."""
    init: bool | str


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A frozen module and the adapters on it, by name.

    Several active adapters of one kind are summed; each kind is applied once, in the order of the
    equations above.
    """

    # The names are those of the original's files once PEFT has taken the adapter's name out.
    adapter_layer_names = ("adapter_down", "adapter_up", "adapter_scaling")
    other_param_names = ("adapter_act", "adapter_dropout", "plans")

    def __init__(self, base_layer: nn.Module, adapter_name: str, plan: AdapterPlan) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.plans: dict[str, AdapterPlan] = {}
        self.adapter_down = nn.ModuleDict()
        self.adapter_up = nn.ModuleDict()
        self.adapter_scaling = nn.ParameterDict()
        self.adapter_act = nn.ModuleDict()
        self.adapter_dropout = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter: str | list[str] = adapter_name
        self.update_layer(adapter_name, plan)

    def update_layer(
        self, adapter_name: str, plan: AdapterPlan, *, inference_mode: bool = False
    ) -> None:
        """Add an adapter, or replace the one of that name."""
        down = nn.Linear(plan.inputs, plan.bottleneck, bias=False)
        up = nn.Linear(plan.bottleneck, plan.outputs, bias=False)
        _init(down.weight, up.weight, plan.init)
        self.plans[adapter_name] = plan
        self.adapter_down[adapter_name] = down
        self.adapter_up[adapter_name] = up
        self.adapter_act[adapter_name] = ACT2FN[plan.non_linearity]
        self.adapter_dropout[adapter_name] = (
            nn.Dropout(plan.dropout) if plan.dropout > 0 else nn.Identity()
        )
        if plan.scaling is None:
            self.adapter_scaling[adapter_name] = nn.Parameter(torch.ones(1))
        elif adapter_name in self.adapter_scaling:
            del self.adapter_scaling[adapter_name]
        BaseTunerLayer._move_adapter_to_device_of_base_layer(self, adapter_name)
        BaseTunerLayer.set_adapter(self, self._active(), inference_mode=inference_mode)

    def _active(self) -> list[str]:
        names = self._active_adapter
        return [names] if isinstance(names, str) else list(names)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Always refused: the adapter is not linear."""
        raise MethodError(NO_MERGE)

    def unmerge(self) -> None:
        """Always refused, as `merge` is."""
        raise MethodError(NO_MERGE)

    # --- the computation ----------------------------------------------------------------------

    def forward(
        self, x: Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """The adapted module's output; `adapter_names` names one adapter a row."""
        if self._disable_adapters:
            return self.base_layer(x, *args, **kwargs)  # type: ignore[no-any-return]
        if adapter_names is not None:
            return self._mixed(x, adapter_names, *args, **kwargs)
        active = [name for name in self._active() if name in self.plans]
        into = self._added(x, active, "before")
        y: Tensor = self.base_layer(into, *args, **kwargs)
        y = self._added(y, active, "after")
        return self._added(y, active, "parallel", source=x)

    def _added(
        self, stream: Tensor, names: Sequence[str], kind: Kind, source: Tensor | None = None
    ) -> Tensor:
        """`stream` plus what the adapters of `kind` make of `source` (of `stream`, if None)."""
        read = stream if source is None else source
        for name in names:
            if self.plans[name].kind == kind:
                stream = stream + self._delta(read, name, stream.dtype)
        return stream

    def _delta(self, z: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        """`s * delta(z)` of adapter `name` in `dtype`."""
        down = self.adapter_down[name]
        z = BaseTunerLayer._cast_input_dtype(self, z, down.weight.dtype)
        z = self.adapter_dropout[name](z)
        delta: Tensor = self.adapter_up[name](self.adapter_act[name](down(z)))
        scaling = self.plans[name].scaling
        if scaling is None:
            delta = delta * self.adapter_scaling[name]
            return delta.to(dtype)
        delta = delta.to(dtype)
        return delta if scaling == 1.0 else delta * scaling

    # --- one adapter a row --------------------------------------------------------------------

    def _mixed(self, x: Tensor, adapter_names: Sequence[str], *args: Any, **kwargs: Any) -> Tensor:
        if len(adapter_names) != len(x):
            raise MethodError(
                f"adapter_names has {len(adapter_names)} names for a batch of {len(x)} rows; "
                f"give one a row, {BASE!r} for rows without an adapter"
            )
        groups = list(self._rows(adapter_names, x.device))
        into = self._added_by_row(x, groups, "before")
        y: Tensor = self.base_layer(into, *args, **kwargs)
        y = self._added_by_row(y, groups, "after")
        return self._added_by_row(y, groups, "parallel", source=x)

    def _rows(
        self, adapter_names: Sequence[str], device: torch.device
    ) -> Iterator[tuple[str, Tensor]]:
        for name in dict.fromkeys(adapter_names):
            if name in self.plans:  # neither the base nor an adapter of other modules
                rows = [row for row, its in enumerate(adapter_names) if its == name]
                yield name, torch.tensor(rows, device=device)

    def _added_by_row(
        self,
        stream: Tensor,
        groups: Sequence[tuple[str, Tensor]],
        kind: Kind,
        source: Tensor | None = None,
    ) -> Tensor:
        read = stream if source is None else source
        for name, rows in groups:
            if self.plans[name].kind == kind:
                delta = self._delta(read[rows], name, stream.dtype)
                stream = stream.index_add(0, rows, delta)
        return stream

    def __repr__(self) -> str:
        return "bottleneck." + super().__repr__()


def _init(down_MI: Tensor, up_OM: Tensor, init: bool | str) -> None:
    if init == "bert":
        nn.init.normal_(down_MI, std=0.02)
        nn.init.normal_(up_OM, std=0.02)
    elif init == "mam_adapter":
        nn.init.kaiming_uniform_(down_MI, a=math.sqrt(5))
        nn.init.zeros_(up_OM)
    elif init is False:
        nn.init.kaiming_uniform_(down_MI, a=math.sqrt(5))
        nn.init.kaiming_uniform_(up_OM, a=math.sqrt(5))
    else:  # "zero" and True
        nn.init.normal_(down_MI, std=0.02)
        nn.init.zeros_(up_OM)
