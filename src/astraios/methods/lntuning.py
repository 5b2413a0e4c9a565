"""LN tuning: train the normalisations alone (Zhao et al. 2023, arXiv:2312.11420).

    y = (x - mean) / deviation * g + b     g, b of every normalisation of the base; RMS has no b

The trained copies lie beside the base's, which stay. Parameters: every weight and bias of the
normalisations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods._options import only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape, is_norm

if TYPE_CHECKING:
    from torch import nn


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """The weights and biases of all normalisations."""
    only_counted("lntuning", settings, {"modules_to_save": None, "target_modules": None})
    if shape.norms is None:
        raise MethodError(
            "the parameter formula of 'lntuning' needs the sizes of the normalisations; take the "
            "shape from a model or its config (Shape.from_config)"
        )
    return shape.norms


def find(model: nn.Module) -> dict[str, Any]:
    """Names of the model's normalisations, as short as they are not those of other modules.

    Raises:
        MethodError: if it has none with weights.
    """
    norms = {name for name, module in model.named_modules() if is_norm(module)}
    if not norms:
        raise MethodError(
            f"method 'lntuning' found no normalisation with weights in {type(model).__name__}; "
            "name the modules by target_modules, or take another method"
        )
    others = {
        name.rpartition(".")[2] for name, _ in model.named_modules() if name not in norms and name
    }
    lasts = {name.rpartition(".")[2] for name in norms}
    return {"target_modules": sorted(norms if lasts & others else lasts)}


method = PeftMethod(
    name="lntuning",
    title="LN tuning",
    paper="Zhao et al. 2023, arXiv:2312.11420",
    peft_type="LN_TUNING",
    mergeable=True,
    more_options=("target_modules", "exclude_modules", "modules_to_save"),
    find=find,
    formula=n_trainable,
)
