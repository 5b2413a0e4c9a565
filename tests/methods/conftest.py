"""A tiny random model of the StarCoder architecture, and its kin."""

from __future__ import annotations

from typing import Any

import pytest


def tiny_config(architecture: str = "gpt_bigcode", **changes: Any) -> Any:
    """A two-layer transformers config without dropout."""
    from transformers import AutoConfig

    sizes: dict[str, Any] = {
        "vocab_size": 96,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    gpt = {"n_positions": 64, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    plain = {"intermediate_size": 48, "max_position_embeddings": 64}
    grouped = {**plain, "num_key_value_heads": 2}
    more: dict[str, dict[str, Any]] = {
        "gpt_bigcode": {**gpt, "n_inner": 48, "multi_query": True},
        "gpt2": {**gpt, "n_inner": 48},
        "gptj": {**gpt, "n_inner": 48, "rotary_dim": 4},
        "gpt_neo": {
            **plain,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "embed_dropout": 0.0,
            "resid_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "gpt_neox": {**plain, "hidden_dropout": 0.0, "attention_dropout": 0.0},
        "llama": grouped,
        "mistral": grouped,
        "qwen2": grouped,
        "qwen3": {**grouped, "head_dim": 16},
        "gemma": {**grouped, "head_dim": 16},
        "gemma2": {**grouped, "head_dim": 16},
        "gemma3_text": {**grouped, "head_dim": 16},
        "granite": grouped,
        "starcoder2": {**grouped, "residual_dropout": 0.0, "embedding_dropout": 0.0},
        "phi": plain,
        "phi3": grouped,
        "opt": {"ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}
        | {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
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
    if architecture == "mpt":
        sizes = {name: sizes[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    return AutoConfig.for_model(architecture, **{**sizes, **more[architecture], **changes})


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


@pytest.fixture(scope="session", autouse=True)
def _quiet_progress() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture(name="tiny_config")
def _tiny_config() -> Any:
    return tiny_config


@pytest.fixture(name="tiny_model")
def _tiny_model() -> Any:
    return tiny_model


@pytest.fixture
def model() -> Any:
    """A fresh multi-query GPTBigCode."""
    return tiny_model()


@pytest.fixture
def batch() -> Any:
    """Token ids and mask of three rows of which two are left-padded."""
    import torch

    ids_BT = torch.randint(3, 96, (3, 10), generator=torch.Generator().manual_seed(1))
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[0, :4] = 0
    mask_BT[1, :1] = 0
    return ids_BT.masked_fill(mask_BT == 0, 0), mask_BT
