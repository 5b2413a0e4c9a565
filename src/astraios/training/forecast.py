"""What a training takes by the shape of its base model alone: no weights are read, none are made.

One part of a step is computed forward and backward on the meta device, where tensors have sizes and
no content, with one block and with two; all blocks are alike, so the rest follows. Attention is
counted as the fused kernels hold it: no matrix of all pairs of positions.

What is an assumption, and `training.memory` counts on the real model instead: that a part has the
most tokens it may have; autocast's copies of weights; quantised layers as frozen ones of that size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from astraios import methods
from astraios.records import Record
from astraios.training._loss import ELEMENTS, ELEMENTS_GPU
from astraios.training.accounting import Operations
from astraios.training.config import TrainingConfig
from astraios.training.memory import Live, Memory

__all__ = ["Forecast", "forecast"]

_MIB = 2**20
_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / 64 / 256}
"""Of a frozen weight; nf4 with a scale of 8 bits for 64 weights, and one of 32 for 256 scales."""


class Forecast(Memory):
    """Memory of one device, sizes and operations of a training, by shape."""

    trainable_parameters: int
    total_parameters: int
    n_tokens_at_once: int
    """That one device computes at a time, at most."""
    flops_per_token: float


class _Measured(Record):
    """Of one model: bytes and operations."""

    saved: float
    peak: float
    flops: float
    n_trained: float
    n_frozen: float
    n_quantised: float
    """Of the frozen weights, those in linear layers of blocks, which alone are quantised."""

    def at(self, other: _Measured, n_blocks: int) -> _Measured:
        """Of `n_blocks` blocks, where this has one and `other` two."""
        mine, more = self.model_dump(), other.model_dump()
        return _Measured(
            **{name: mine[name] + (more[name] - mine[name]) * (n_blocks - 1) for name in mine}
        )


def forecast(config: TrainingConfig, model: Any, *, row_tokens: int, gpu: bool) -> Forecast:
    """What one device takes in the training `config` of a base model.

    Args:
        config: the training.
        model: the transformers config of its base model.
        row_tokens: tokens of the longest row.
        gpu: whether it runs on a GPU, which computes a part at once and copies gradients once.

    Raises:
        MethodError: if the method does not fit such a model.
    """
    plan = config.optimization
    n_rows = plan.rows_per_device or plan.batch_size
    if not gpu:
        from astraios.training.batches import AT_ONCE

        n_rows = min(n_rows, max(1, AT_ONCE // row_tokens))
    one, two = (_measure(config, model, n_blocks, n_rows, row_tokens) for n_blocks in (1, 2))
    found = one.at(two, int(model.get_text_config().num_hidden_layers))
    gradients = 4 * found.n_trained
    states = 2 * gradients if plan.optimizer == "adamw" else gradients / 2
    each = _BYTES[config.base_precision]
    rest = 4.0 if config.base_precision in ("int8", "nf4") else each
    weights = (
        4 * found.n_trained + each * found.n_quantised + rest * (found.n_frozen - found.n_quantised)
    )
    head = _head(config, model, n_rows * row_tokens, gpu)
    most = max(found.peak, found.saved + head)
    if config.compute_precision == "bf16":
        most += 2 * found.n_trained  # autocast's copies
    most = max(most, gradients) if gpu else most  # the optimizer's own copy, when activations went
    parts = (weights, gradients, states, most)
    n_tokens = n_rows * row_tokens
    return Forecast(
        weights_mib=parts[0] / _MIB,
        gradients_mib=parts[1] / _MIB,
        optimizer_mib=parts[2] / _MIB,
        activations_mib=parts[3] / _MIB,
        estimate_mib=sum(parts) / _MIB,
        trainable_parameters=round(found.n_trained),
        total_parameters=round(found.n_trained + found.n_frozen),
        n_tokens_at_once=n_tokens,
        flops_per_token=found.flops / n_tokens + _head_flops(config, model),
    )


def _measure(
    config: TrainingConfig, shape: Any, n_blocks: int, n_rows: int, row_tokens: int
) -> _Measured:
    method = methods.method(config.method)
    short = copy.deepcopy(shape)
    short.get_text_config().num_hidden_layers = n_blocks
    options = method.options_for(config.method_options, config.optimization.n_steps)
    half = config.compute_precision == "bf16"
    with torch.device("meta"):
        tuned: Any = method.apply(_model(short), options).train()
        sizes = _sizes(tuned)
        if half:
            tuned.to(torch.bfloat16)
        base: Any = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
        if config.gradient_checkpointing:
            base.activation_checkpointing_enable({"use_reentrant": False})
        width = int(short.get_text_config().hidden_size)
        prompt = getattr(tuned, "active_peft_config", None)
        n_tokens = row_tokens + int(getattr(prompt, "num_virtual_tokens", None) or 0)
        dtype = torch.bfloat16 if half else torch.float32
        mask = torch.ones(n_rows, 1, n_tokens, n_tokens, dtype=torch.bool)
        places = torch.arange(n_tokens).expand(n_rows, n_tokens)
        with _attention() as attention, Operations() as counted, Live() as live:
            embedded = torch.zeros(n_rows, n_tokens, width, dtype=dtype)
            embedded.requires_grad_(method.trains_base or method.adds_tokens)
            hidden = base.base_model(
                inputs_embeds=embedded,
                attention_mask=mask,
                position_ids=places,
                use_cache=False,
            ).last_hidden_state
            saved = live.now
            if hidden.requires_grad:
                hidden.sum().backward()
    made = sum(
        p.grad.numel() * p.grad.element_size() for p in tuned.parameters() if p.grad is not None
    )
    return _Measured(
        saved=saved,
        peak=max(0, live.peak - made),
        flops=counted.get_total_flops() + attention.flops,
        **sizes,
    )


def _model(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def _sizes(tuned: nn.Module) -> dict[str, float]:
    trained = [p for p in tuned.parameters() if p.requires_grad]
    frozen = [p for p in tuned.parameters() if not p.requires_grad]
    head = {id(p) for p in _embeddings(tuned)}
    inside = {
        id(m.weight)
        for m in tuned.modules()
        if isinstance(m, nn.Linear) and id(m.weight) not in head
    }
    return {
        "n_trained": sum(p.numel() for p in trained),
        "n_frozen": sum(p.numel() for p in frozen),
        "n_quantised": sum(p.numel() for p in frozen if id(p) in inside),
    }


def _embeddings(tuned: Any) -> list[Any]:
    base = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
    found = (base.get_input_embeddings(), base.get_output_embeddings())
    return [weight for module in found if module is not None for weight in module.parameters()]


def _head(config: TrainingConfig, shape: Any, n_tokens: int, gpu: bool) -> float:
    """Bytes of the loss: some logits in fp32, their narrow copy, the gradient of hidden states."""
    text = shape.get_text_config()
    wide = 2 if config.compute_precision == "bf16" else 4
    elements = min(n_tokens * text.vocab_size, ELEMENTS_GPU if gpu else ELEMENTS)
    trained = methods.method(config.method).trains_base
    of_weight = 4 * text.vocab_size * text.hidden_size if trained else 0
    narrow = 2 * elements if wide == 2 else 0
    return float(wide * n_tokens * text.hidden_size + 4 * elements + narrow + of_weight)


def _head_flops(config: TrainingConfig, shape: Any) -> float:
    text = shape.get_text_config()
    passes = 3 if methods.method(config.method).trains_base else 2
    return float(2 * passes * text.vocab_size * text.hidden_size)


# --- attention --------------------------------------------------------------------------------


@dataclass
class _Counter:
    flops: float = 0.0


class _Fused(torch.autograd.Function):
    """Attention as fused kernels keep it: inputs, result and one number a row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, counter: _Counter) -> Tensor:
        result = torch.empty_like(query)
        norms = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, result, norms)
        ctx.counter = counter
        counter.flops += 4 * query.numel() * key.shape[-2]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        ctx.counter.flops += 10 * query.numel() * key.shape[-2]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


@contextmanager
def _attention() -> Iterator[_Counter]:
    """Puts `_Fused` in the place of PyTorch's attention, whose meta form holds all pairs.

    By name, for modes of functions do not reach what checkpointing computes again.
    """
    counter, before = _Counter(), nn.functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        return _Fused.apply(query, key, value, counter)  # type: ignore[no-untyped-call]

    nn.functional.scaled_dot_product_attention = fused
    try:
        yield counter
    finally:
        nn.functional.scaled_dot_product_attention = before
