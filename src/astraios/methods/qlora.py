"""QLoRA: LoRA on all linear layers of a base in four bits (Dettmers et al. 2023, arXiv:2305.14314).

    y = dequantised(W_nf4) x + (alpha / r) * B A drop(x)

The four bits are the base's and a choice of the recipe, `base_precision: nf4`; a base in another
precision is refused when tuning begins, because it would be LoRA under a name that promises more.
What was tuned loads on the base in any precision.

Parameters: `r * (in + out)` of all linear layers of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods import lora
from astraios.methods._architectures import Architecture
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import nn


def layers(block: Architecture) -> tuple[str, ...]:
    """All linear layers of a block."""
    return block.paths


def targets(block: Architecture) -> dict[str, Any]:
    """Config fields for an architecture."""
    return {"target_modules": list(block.shorts(layers(block)))}


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """`r * (in + out)` of every linear layer."""
    only_counted("qlora", settings, {"bias": "none", "modules_to_save": None})
    n_blocks, paths = adapted("qlora", shape, settings, layers)
    return n_blocks * sum(int(settings["r"]) * sum(shape.widths(path)) for path in paths)


def check(model: nn.Module) -> None:
    """Refuse a base without four-bit layers.

    Raises:
        MethodError: with the setting that makes them.
    """
    if not any(type(module).__name__ == "Linear4bit" for module in model.modules()):
        raise MethodError(
            "method 'qlora' tunes a base in four bits, and this one has none; set base_precision: "
            "nf4 (or load it with BitsAndBytesConfig(load_in_4bit=True)), or take method 'lora'"
        )


method = PeftMethod(
    name="qlora",
    title="QLoRA",
    paper="Dettmers et al. 2023, arXiv:2305.14314",
    peft_type="LORA",
    mergeable=True,
    defaults={"r": 64, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none"},
    more_options=(*lora.OPTIONS, "init_lora_weights", "use_rslora"),
    targets=targets,
    check=check,
    formula=n_trainable,
    is_identity=lora.is_identity,
)
