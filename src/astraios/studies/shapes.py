"""The shape of a base model without the model: sizes that are known, or a config that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from astraios import published
from astraios.training.config import EMBEDDED

__all__ = ["shape_of"]


def shape_of(base_model: str, revision: str | None = None) -> tuple[Any, str] | None:
    """The transformers config of a base model and where it comes from; None where it is not known.

    Embedded models and StarCoderBase are known; of others the config is read, from a folder or from
    the cache of the hub's files. Nothing is downloaded.
    """
    from transformers import AutoConfig, GPTBigCodeConfig

    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0}
    if base_model in EMBEDDED:
        small = EMBEDDED[base_model]
        sizes = (small.hidden, small.n_layers, small.n_heads, small.n_positions, small.vocabulary)
        source = "the recipe of the embedded model"
    else:
        size = next((s for s in published.SIZES if s.base_model == base_model), None)
        if size is None:
            try:
                here = not Path(base_model).is_dir()
                read = AutoConfig.from_pretrained(
                    base_model, revision=revision, local_files_only=here
                )
            except (OSError, ValueError, KeyError):
                return None
            return read, "its config"
        layout = (published.N_POSITIONS, published.VOCABULARY)
        sizes = (size.hidden, size.n_layers, size.n_heads, *layout)
        source = "the published sizes"
    hidden, n_layers, n_heads, n_positions, vocabulary = sizes
    config = GPTBigCodeConfig(
        n_embd=hidden,
        n_layer=n_layers,
        n_head=n_heads,
        n_inner=4 * hidden,
        n_positions=n_positions,
        vocab_size=vocabulary,
        activation_function="gelu_pytorch_tanh",
        multi_query=True,
        eos_token_id=0,
        **off,
    )
    return config, source
