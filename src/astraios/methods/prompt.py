"""Prompt tuning: trained virtual tokens, without an encoder (Lester et al. 2021, arXiv:2104.08691).

    input = [ p_1 ... p_V  x_1 ... x_T ]

What P-Tuning is without the network that makes its tokens. Left-padded rows get their virtual
tokens between the padding and the prompt. Parameters: `V d`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astraios.methods._options import only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """One embedding a virtual token."""
    only_counted("prompt", settings, {"modules_to_save": None})
    return int(settings["num_virtual_tokens"]) * shape.hidden


method = PeftMethod(
    name="prompt",
    title="Prompt tuning",
    paper="Lester et al. 2021, arXiv:2104.08691",
    peft_type="PROMPT_TUNING",
    defaults={"num_virtual_tokens": 30},
    more_options=(
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "tokenizer_name_or_path",
        "tokenizer_kwargs",
        "token_dim",
        "num_layers",
        "num_attention_heads",
        "modules_to_save",
    ),
    formula=n_trainable,
    adds_tokens=True,
)
