"""VeRA: scales on shared random projections (Kopiczko et al. 2024, arXiv:2310.11454).

    y = W x + b * (B (d * (A drop(x))))        A, B random, frozen, the same in every layer

d starts at 0.1 and b at zero, so the tuned model starts as the base. Placed as LoRA is in the
study; the projections are as wide as the widest adapted layer, and each layer uses its part.

Parameters: per adapted layer `r + out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.methods import lora
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """`r + out` of every adapted layer."""
    only_counted("vera", settings, {"bias": "none", "modules_to_save": None})
    n_blocks, paths = adapted("vera", shape, settings, lora.layers)
    return n_blocks * sum(int(settings["r"]) + shape.widths(path)[1] for path in paths)


def is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every b is zero."""
    return all(not w.any() for name, w in weights.items() if name.endswith("vera_lambda_b"))


method = PeftMethod(
    name="vera",
    title="VeRA",
    paper="Kopiczko et al. 2024, arXiv:2310.11454",
    peft_type="VERA",
    mergeable=True,
    defaults={"r": 256, "d_initial": 0.1, "vera_dropout": 0.0, "bias": "none"},
    more_options=(
        "target_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
        "fan_in_fan_out",
        "projection_prng_key",
        "save_projection",
        "init_weights",
    ),
    targets=lora.targets,
    formula=n_trainable,
    is_identity=is_identity,
)
