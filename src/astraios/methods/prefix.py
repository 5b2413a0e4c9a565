"""Prefix tuning: trained keys and values before the input (Li and Liang 2021, arXiv:2101.00190).

    attention of each layer over [ P_k K ] and [ P_v V ]     P_k, P_v in R^{V x k}

The prefix is put into the cache of keys and values and not into the input, so a cache has to be
made: gradient checkpointing cannot be used with it, documents of one row would see each other, and
the generation engine here, which packs rows of its own, does not take it; PEFT's `generate` does.
Multi-query and grouped-query bases have narrower keys, which the prefix follows.

Parameters: `V * 2 k` a layer, for keys of width k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astraios.methods._options import only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """Keys and values of every layer."""
    only_counted("prefix", settings, {"modules_to_save": None, "prefix_projection": False})
    return int(settings["num_virtual_tokens"]) * 2 * shape.kv * shape.n_layers


method = PeftMethod(
    name="prefix",
    title="Prefix tuning",
    paper="Li and Liang 2021, arXiv:2101.00190",
    peft_type="PREFIX_TUNING",
    defaults={"num_virtual_tokens": 30},
    more_options=(
        "prefix_projection",
        "encoder_hidden_size",
        "init_weights",
        "token_dim",
        "num_layers",
        "num_attention_heads",
        "modules_to_save",
    ),
    formula=n_trainable,
    batched=False,
    adds_tokens=True,
    isolates=False,
)
