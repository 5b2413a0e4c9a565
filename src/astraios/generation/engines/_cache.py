"""Keys and values of a batch that rows enter and leave.

Rows are right-aligned, so every row's newest token is in the last column:

    start    column 0 1 2 3 4 5
      2             . . a b c d        `.` padding, masked
      0             e f g h i j
      4             . . . . k l        a row that came later

Axes: B rows, H key-value heads (1 in multi-query attention), T columns, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicIndexedLayer, DynamicLayer

from astraios.errors import EngineError

SPARE = 32
"""Columns added when a buffer is full: copies happen every 32 steps instead of at each."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer's keys and values, in buffers with room for the next tokens.

    `keys` and `values` are views of the filled columns, so the base class's readers stay right.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_initialized: bool = False
        self._key_buffer: Tensor | None = None
        self._value_buffer: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append columns; returns all keys and all values."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        old, new = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self._key_buffer is None or new > self._key_buffer.shape[2]:
            self.place([(self.keys, self.values)], new + SPARE)
        assert self._key_buffer is not None
        assert self._value_buffer is not None
        self._key_buffer[:, :, old:new] = key_states
        self._value_buffer[:, :, old:new] = value_states
        self.keys, self.values = self._key_buffer[:, :, :new], self._value_buffer[:, :, :new]
        return self.keys, self.values

    def place(self, parts: Sequence[tuple[Tensor, Tensor]], capacity: int) -> None:
        """Take over `parts` [b, H, t, D], stacked as rows and aligned on the right."""
        self._key_buffer, self.keys = _stack([keys for keys, _ in parts], capacity)
        self._value_buffer, self.values = _stack([values for _, values in parts], capacity)
        self.dtype, self.device = self.keys.dtype, self.keys.device
        self.is_initialized = True


def _stack(parts: Sequence[Tensor], capacity: int) -> tuple[Tensor, Tensor]:
    """A buffer [B, H, capacity, D] and the view of its filled columns."""
    first = parts[0]
    n_rows, width = sum(len(part) for part in parts), max(part.shape[2] for part in parts)
    buffer = first.new_empty(n_rows, first.shape[1], capacity, first.shape[3])
    at = 0
    for part in parts:
        here = buffer[at : at + len(part)]
        at += len(part)
        padding = width - part.shape[2]
        here[:, :, :padding] = 0  # masked, but 0 times an uninitialised nan would still be nan
        here[:, :, padding:width] = part
    return buffer, buffer[:, :, :width]


def new_cache() -> DynamicCache:
    """An empty cache for a prefill."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = GrowingLayer
    return cache


def regroup(parts: Sequence[tuple[DynamicCache, Tensor, int]]) -> DynamicCache:
    """One cache out of several.

    Args:
        parts: each a cache, the rows to take from it (int64, may repeat) and the first column
            that any of them needs.
    """
    joined = new_cache()
    width = max(cache.get_seq_length() - first for cache, _, first in parts)
    for depth in range(len(parts[0][0].layers)):
        layer = GrowingLayer()
        taken = [(cache.layers[depth], rows, first) for cache, rows, first in parts]
        layer.place(
            [
                (old.keys[:, :, first:][rows], old.values[:, :, first:][rows])
                for old, rows, first in taken
            ],
            width + SPARE,
        )
        joined.layers.append(layer)
    return joined


def check_model(config: Any) -> None:
    """Refuse models whose memory of the past is more than keys and values.

    Raises:
        EngineError: naming the model type.
    """
    for layer in DynamicCache(config=config).layers:
        if not isinstance(layer, DynamicLayer) or isinstance(layer, DynamicIndexedLayer):
            raise EngineError(
                f"model type {config.model_type!r} keeps a {type(layer).__name__} between tokens; "
                "the hf engine hosts models with attention in every layer only"
            )
