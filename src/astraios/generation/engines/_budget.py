"""What a batch may hold, from a budget in tokens or in memory.

Memory beside the model's weights, at its peak:

    tokens * 2 * (keys and values of a token)    those of the batch, and of prompts that enter it
    tokens * (one layer's, for all heads)        attention that repeats shared keys for its heads
    rows * vocabulary * (logits, and in fp32)
    activations of one prefill, workspace of one drawing: constants

The estimate is from above; `benchmarks/generation.py` measures how near a run comes to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from astraios.errors import ConfigError, EngineError
from astraios.generation.engines._cache import new_cache
from astraios.generation.engines._placing import TWO_BUDGETS
from astraios.generation.engines._sampling import SLICE

__all__ = ["Budget", "budget", "prefill_tokens"]

BATCH_TOKENS = 49152
"""Default on a CPU: tokens whose keys and values a batch may hold, padding counted. More make a
batch no faster there."""
MAX_ROWS = 512
"""Rows of a batch; beyond it nothing is won and the logits of large vocabularies take memory."""
PREFILL_TOKENS = 1024
"""Tokens of one prefill on a CPU: what lies between two layers should stay in its caches."""
PREFILL_TOKENS_ACCELERATOR = 16_384
SHARE_OF_FREE = 0.85
"""Of the memory that is free beside the model, by default."""
SHARE_OF_LOGITS = 0.25
"""Of a budget in memory: most that rows may take for their logits."""
LEAST_TOKENS = 256
"""A budget that holds less is refused."""
MASKS = 40
"""Bytes a token of masks and positions, in the forms that a forward pass makes of them."""
DRAWING = 40
"""Bytes a logit of sorting, summing and inverting."""
MIB = 2**20


@dataclass(frozen=True)
class Budget:
    """Most that one batch holds."""

    n_tokens: int
    """Tokens with keys and values, padding counted."""
    n_rows: int = MAX_ROWS


@dataclass(frozen=True)
class _Needs:
    """Bytes that a batch takes."""

    token: int
    row: int
    constant: int

    def holds(self, memory: float) -> Budget:
        """The budget that takes no more than `memory` bytes; it may be empty."""
        left = memory - self.constant
        n_rows = int(min(MAX_ROWS, max(1, left * SHARE_OF_LOGITS // self.row)))
        return Budget(int(max(0, left - n_rows * self.row) // self.token), n_rows)


def prefill_tokens(device: torch.device) -> int:
    """Tokens of one forward pass over prompts, padding counted."""
    return PREFILL_TOKENS if device.type == "cpu" else PREFILL_TOKENS_ACCELERATOR


def budget(model: nn.Module, batch_tokens: int | None, memory_mib: float | None) -> Budget:
    """The budget that is asked for, or the default: what fits into the memory that is free.

    Raises:
        ConfigError: if two are given, or the memory holds no batch.
    """
    if batch_tokens is not None and memory_mib is not None:
        raise ConfigError(TWO_BUDGETS)
    if batch_tokens is not None:
        return Budget(batch_tokens)
    needs = _needs(model)
    if memory_mib is not None:
        found = needs.holds(memory_mib * MIB)
        if found.n_tokens < LEAST_TOKENS:
            least = needs.constant + needs.row * 4 / 3 + needs.token * LEAST_TOKENS
            raise ConfigError(
                f"memory_mib={memory_mib:g} holds no batch of this model; give at least "
                f"{least / MIB:.0f}"
            )
        return found
    device = next(model.parameters()).device
    free = _free(device)
    if free is None:
        return Budget(BATCH_TOKENS)
    found = needs.holds(free * SHARE_OF_FREE)
    most = BATCH_TOKENS if device.type == "cpu" else found.n_tokens
    return Budget(max(LEAST_TOKENS, min(most, found.n_tokens)), found.n_rows)


@torch.inference_mode()
def _needs(model: Any) -> _Needs:
    weight = next(model.parameters())
    config = model.config.get_text_config()
    cache = new_cache()
    probe_11 = torch.zeros(1, 1, dtype=torch.long, device=weight.device)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    try:
        logits_11V = model(
            input_ids=probe_11,
            attention_mask=torch.ones_like(probe_11),
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": probe_11} if takes_positions else {}),
        ).logits
    except torch.OutOfMemoryError:
        raise EngineError(
            "the device's memory does not hold one token beside the model; use a smaller model, "
            "a lower precision or a larger device"
        ) from None
    stored = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    n_bytes = weight.element_size()
    repeated = 2 * config.hidden_size * n_bytes
    vocabulary = logits_11V.shape[-1]
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    widths = 12 * config.hidden_size + 3 * (inner or 4 * config.hidden_size)
    return _Needs(
        token=2 * stored + repeated + MASKS,
        row=vocabulary * (logits_11V.element_size() + 4),
        constant=prefill_tokens(weight.device) * widths * n_bytes
        + min(SLICE, MAX_ROWS * vocabulary) * DRAWING,
    )


def _free(device: torch.device) -> float | None:
    """Bytes that the device has left; None where it does not tell."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    told = Path("/proc/meminfo")
    if device.type != "cpu" or not told.exists():
        return None
    values: Mapping[str, str] = dict(
        line.split(":", 1) for line in told.read_text().splitlines() if ":" in line
    )
    available = values.get("MemAvailable")
    return None if available is None else float(available.split()[0]) * 1024
