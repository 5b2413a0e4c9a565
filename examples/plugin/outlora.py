"""LoRA beside the layers that write to the residual stream, and no others.

    y = W x + (alpha / r) * B A drop(x)        W the output projections of attention and MLP

Parameters: per block `r * (in + out)` of both. LoRA is by Hu et al. 2021, arXiv:2106.09685.
"""

from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod


def layers(block):
    """Adapted paths inside one block."""
    return (block.attention_out, block.mlp_out)


def count(shape, settings):
    """The formula of the docstring; options that it does not cover are refused."""
    only_counted("outlora", settings, {"modules_to_save": None})
    n_blocks, paths = adapted("outlora", shape, settings, layers)
    return n_blocks * sum(settings["r"] * sum(shape.widths(path)) for path in paths)


method = PeftMethod(
    name="outlora",
    title="LoRA (outputs)",
    paper="Hu et al. 2021, arXiv:2106.09685",
    peft_type="LORA",
    mergeable=True,
    defaults={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05},
    more_options=("target_modules", "modules_to_save"),
    targets=lambda block: {"target_modules": list(block.shorts(layers(block)))},
    formula=count,
)
