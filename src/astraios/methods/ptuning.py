"""P-Tuning: trained virtual tokens before the input (Liu et al. 2021, arXiv:2103.10385).

    input = [ MLP(e_1) ... MLP(e_V)  x_1 ... x_T ]        MLP: d -> h -> h -> d with ReLU between

The virtual tokens come from an embedding through an MLP that is needed for training only: an
adapter's folder holds the V finished vectors, and the encoder in a file of its own so that training
can go on. As in the study, V = 30 and h = d.

Left-padded rows get their virtual tokens between the padding and the prompt.

Parameters, once for the model: `V d + (d h + h) + (h h + h) + (h d + d)`; with h = d,
`30 d + 3 (d^2 + d)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astraios.errors import MethodError
from astraios.methods._options import only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """The embedding and the three layers of the encoder."""
    only_counted("ptuning", settings, {"modules_to_save": None})
    kind = settings["encoder_reparameterization_type"]
    if kind != "MLP":
        raise MethodError(
            f"the parameter formula of 'ptuning' is for an MLP encoder, not for {kind!r}; "
            "count the trainable weights of the tuned model instead"
        )
    width = shape.hidden
    hidden = int(settings.get("encoder_hidden_size") or width)
    encoder = (width * hidden + hidden) + (hidden * hidden + hidden) + (hidden * width + width)
    return int(settings["num_virtual_tokens"]) * width + encoder


method = PeftMethod(
    name="ptuning",
    title="P-Tuning",
    paper="Liu et al. 2021, arXiv:2103.10385",
    peft_type="P_TUNING",
    defaults={"num_virtual_tokens": 30, "encoder_reparameterization_type": "MLP"},
    more_options=(
        "encoder_hidden_size",
        "encoder_num_layers",
        "encoder_dropout",
        # Read off the base's config; MPT's has other names, and needs them said.
        "token_dim",
        "num_layers",
        "num_attention_heads",
        "modules_to_save",
    ),
    formula=n_trainable,
    adds_tokens=True,
)
