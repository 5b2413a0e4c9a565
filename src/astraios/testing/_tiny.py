"""Tiny random models of the architectures that methods know, and a tokenizer, made in memory."""

from __future__ import annotations

from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from astraios.errors import MissingToolError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["byte_tokenizer", "needs_torch", "tiny_batch", "tiny_config", "tiny_model"]

_SIZES = MappingProxyType(
    {
        "vocab_size": 96,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
)
_GPT = {"n_positions": 64, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
_PLAIN = {"intermediate_size": 48, "max_position_embeddings": 64}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2}
_WIDE_HEADS = {**_GROUPED, "head_dim": 16}
_ARCHITECTURES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "gpt_bigcode": {**_GPT, "n_inner": 48, "multi_query": True},
        "gpt2": {**_GPT, "n_inner": 48},
        "gptj": {**_GPT, "n_inner": 48, "rotary_dim": 4},
        "gpt_neo": {
            **_PLAIN,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "embed_dropout": 0.0,
            "resid_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "gpt_neox": {**_PLAIN, "hidden_dropout": 0.0, "attention_dropout": 0.0},
        "llama": _GROUPED,
        "mistral": _GROUPED,
        "qwen2": _GROUPED,
        "qwen3": _WIDE_HEADS,
        "gemma": _WIDE_HEADS,
        "gemma2": _WIDE_HEADS,
        "gemma3_text": _WIDE_HEADS,
        "granite": _GROUPED,
        "starcoder2": {**_GROUPED, "residual_dropout": 0.0, "embedding_dropout": 0.0},
        "phi": _PLAIN,
        "phi3": _GROUPED,
        "opt": {
            "ffn_dim": 48,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
        },
        "bloom": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
        "falcon": {"hidden_dropout": 0.0, "attention_dropout": 0.0, "alibi": False},
        "mpt": {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "expansion_ratio": 2,
        },
    }
)


def tiny_config(architecture: str = "gpt_bigcode", **changes: Any) -> Any:
    """A two-layer transformers config of width 32, without dropout."""
    from transformers import AutoConfig

    sizes = dict(_SIZES)
    if architecture == "mpt":  # has names of its own for the others
        sizes = {name: sizes[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    return AutoConfig.for_model(
        architecture, **{**sizes, **_ARCHITECTURES[architecture], **changes}
    )


def tiny_model(architecture: str = "gpt_bigcode", **changes: Any) -> Any:
    """A model of `tiny_config`, the same for every call."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(architecture, **changes))
    with torch.no_grad():  # initial weights are so small that outputs hardly differ
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "emb" not in name and "wte" not in name:
                weight.mul_(4.0)
    return model.eval()


def tiny_batch() -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (3, 10), of three rows of which two are left-padded."""
    import torch

    ids_BT = torch.randint(3, 96, (3, 10), generator=torch.Generator().manual_seed(1))
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[0, :4] = 0
    mask_BT[1, :1] = 0
    return ids_BT.masked_fill(mask_BT == 0, 0), mask_BT


def byte_tokenizer(texts: tuple[str, ...], vocabulary: int = 320) -> Any:
    """A byte-level tokenizer like StarCoder's, trained on `texts`; it has no padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<fim>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")


def needs_torch(what: str) -> None:
    """Refuse to go on without the libraries of `astraios[train]`.

    Raises:
        MissingToolError: naming the first that is missing, and what to install.
    """
    for library in ("torch", "transformers", "peft"):
        if find_spec(library) is None:
            raise MissingToolError(
                f"{what} tried with {library}, which is not installed: pip install "
                "'astraios[train]'"
            )
