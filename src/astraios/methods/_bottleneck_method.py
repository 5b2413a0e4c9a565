"""What AdapterH, AdapterP and Parallel share: three layouts of one method."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from astraios.methods._architectures import ARCHITECTURES
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._placement import PLACEMENTS, kind_of
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bottleneck_method"]

# The study's settings; the original starts both matrices at N(0, 0.02), so the untrained adapter
# is not the identity.
RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "bottleneck_size": 256,
        "non_linearity": "tanh",
        "adapter_dropout": 0.0,
        "scaling": 1.0,
        "bias": "none",
        "init_weights": "bert",
    }
)
MORE = (
    "target_modules",
    "positions",
    "reduction_factor",
    "bottleneck_pattern",
    "scaling_pattern",
    "adapter_dtype",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
)


def bottleneck_method(name: str, title: str, paper: str) -> PeftMethod:
    """The method of placement `name`."""

    def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
        return _n_trainable(name, shape, settings)

    return PeftMethod(
        name=name,
        title=title,
        paper=paper,
        peft_type="BOTTLENECK",
        defaults={**RECIPE, "placement": name},
        more_options=MORE,
        formula=n_trainable,
        is_identity=_is_identity,
    )


def _n_trainable(name: str, shape: Shape, settings: Mapping[str, Any]) -> int:
    """Sum over layers of `M * (width read + width added to)`, and 1 if scaling is learned."""
    only_counted(
        name,
        settings,
        {
            "bias": "none",
            "modules_to_save": None,
            "bottleneck_pattern": {},
            "exclude_modules": None,
        },
    )
    layout = PLACEMENTS[settings["placement"]]
    n_blocks, paths = adapted(name, shape, settings, lambda block: tuple(layout.layers(block)))
    total = 0
    for path in paths:
        if path == ARCHITECTURES[shape.architecture].mlp:
            n_inputs = n_outputs = shape.hidden
        else:
            n_inputs, n_outputs = shape.widths(path)
        kind = kind_of(
            path,
            model_type=shape.architecture,
            placement=settings["placement"],
            parallel=settings["placement"] in ("parallel", "parallel_mlp"),
            positions=settings.get("positions"),
        )
        reads = n_outputs if kind == "after" else n_inputs
        adds = n_inputs if kind == "before" else n_outputs
        size = int(settings["bottleneck_size"])
        if settings.get("reduction_factor") is not None:
            size = max(1, int(reads / settings["reduction_factor"]))
        total += size * (reads + adds) + (settings["scaling"] == "learned")
    return n_blocks * total


def _is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every up-projection is zero."""
    return all(not w.any() for name, w in weights.items() if ".adapter_up." in name)
