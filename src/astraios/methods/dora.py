"""DoRA: LoRA on a weight's direction, and its length apart (Liu et al. 2024, arXiv:2402.09353).

    W' = m * (W + (alpha / r) B A) / |W + (alpha / r) B A|     norms of rows; m = |W| at first

Placed as LoRA is in the study. Parameters: per adapted layer LoRA's `r * (in + out)` and one length
for each output, `out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods import lora
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import nn


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """`r * (in + out) + out` of every adapted layer."""
    only_counted("dora", settings, {"bias": "none", "modules_to_save": None})
    n_blocks, paths = adapted("dora", shape, settings, lora.layers)
    rank = int(settings["r"])
    widths = [shape.widths(path) for path in paths]
    return n_blocks * sum(rank * (inputs + outputs) + outputs for inputs, outputs in widths)


def check(model: nn.Module) -> None:
    """Refuse a base in eight bits on a CPU, where bitsandbytes gives no weights back in evaluation.

    Raises:
        MethodError: with what to change.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear8bitLt" and module.weight.device.type == "cpu":
            raise MethodError(
                "method 'dora' reads the base's weights, which bitsandbytes cannot give back from "
                "eight bits on a CPU; set base_precision to nf4 or bf16, or use a GPU"
            )


method = PeftMethod(
    name="dora",
    title="DoRA",
    paper="Liu et al. 2024, arXiv:2402.09353",
    peft_type="LORA",
    mergeable=True,
    defaults={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "use_dora": True},
    more_options=(*lora.OPTIONS, "init_lora_weights"),
    targets=lora.targets,
    check=check,
    formula=n_trainable,
)
