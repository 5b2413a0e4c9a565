"""LoRA: add a low-rank product to frozen projections (Hu et al. 2021, arXiv:2106.09685).

    y = W x + (alpha / r) * B A drop(x)        A in R^{r x in}, B in R^{out x r}, B = 0 at the start

Placed, as in the study, on every attention projection and on the MLP's output projection, and not
on its input projection. For GPTBigCode (q, k and v are one layer): `c_attn`, `attn.c_proj`,
`mlp.c_proj`.

Parameters: per block `r * (in + out)` of each target; for GPTBigCode of width d with keys of width
k and MLP width f, `r * ((2d + 2k) + 2d + (f + d))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from astraios.methods._architectures import Architecture
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


def layers(block: Architecture) -> tuple[str, ...]:
    """Adapted paths inside one block."""
    return (*block.attention_in, block.attention_out, block.mlp_out)


def targets(block: Architecture) -> dict[str, Any]:
    """Config fields for an architecture."""
    return {"target_modules": list(block.shorts(layers(block)))}


def count(name: str, shape: Shape, settings: Mapping[str, Any]) -> int:
    """`r * (in + out)` of every adapted layer; `name` is the method's, for messages."""
    only_counted(name, settings, {"bias": "none", "modules_to_save": None, "use_dora": False})
    n_blocks, paths = adapted(name, shape, settings, layers)
    return n_blocks * sum(int(settings["r"]) * sum(shape.widths(path)) for path in paths)


OPTIONS = (
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
    "fan_in_fan_out",
)
"""Further options that the kin of LoRA have too."""


def is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every B is zero."""
    return all(not w.any() for name, w in weights.items() if ".lora_B." in name)


method = PeftMethod(
    name="lora",
    title="LoRA",
    paper="Hu et al. 2021, arXiv:2106.09685",
    peft_type="LORA",
    mergeable=True,
    defaults={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none"},
    more_options=(*OPTIONS, "init_lora_weights", "use_rslora", "use_dora"),
    targets=targets,
    formula=partial(count, "lora"),
    is_identity=is_identity,
)
