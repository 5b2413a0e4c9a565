"""Keys and values of a batch that rows enter and leave.

Rows are right-aligned, so every row's newest token is in the last column:

    start    column 0 1 2 3 4 5
      2             . . a b c d        `.` padding, masked
      0             e f g h i j
      4             . . . . k l        a row that came later

A row that leaves is replaced by the last one, a row that enters takes the place behind the last:
the others are not copied.

Axes: B rows, H key-value heads (1 in multi-query attention), T columns, D head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicIndexedLayer, DynamicLayer

from astraios.errors import EngineError

SPARE = 32
"""Columns added when a buffer is full, so that it is copied every 32 steps and not at each."""

KeysValues = tuple[Tensor, Tensor]
"""[B, H, T, D] both."""


class RowsLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer's keys and values, in buffers with room for rows and columns to come.

    `keys` and `values` are views of what is in use, so the base class's readers stay right.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_initialized: bool = False
        self._buffers: KeysValues | None = None
        self._first, self._end = 0, 0
        """Columns of the buffers in use."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysValues:
        """Append columns to all rows; returns all keys and all values."""
        if not self.is_initialized:
            self._set(key_states, value_states)
            return self.keys, self.values
        n_rows, n_new = len(key_states), key_states.shape[2]
        if self._buffers is None or self._end + n_new > self._buffers[0].shape[2]:
            width = self.keys.shape[2]
            self._move(n_rows, width, width + n_new + SPARE)
        assert self._buffers is not None
        columns = slice(self._end, self._end + n_new)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:n_rows, :, columns] = states
        self._end += n_new
        self._show(n_rows)
        return self.keys, self.values

    def drop(self, holes: Tensor, movers: Tensor, n_rows: int, n_padding: int) -> None:
        """Keep `n_rows`: fill `holes` with the rows `movers`, and forget the first columns."""
        if self._buffers is None:
            self._move(len(self.keys), self.keys.shape[2], self.keys.shape[2] + SPARE)
        assert self._buffers is not None
        if len(holes):
            for buffer in self._buffers:
                in_use = buffer[:, :, self._first : self._end]
                in_use[holes] = in_use[movers]
        self._first += n_padding
        self._show(n_rows)

    def add(self, parts: Sequence[KeysValues]) -> None:
        """Append rows, aligned on the right."""
        n_rows = len(self.keys) if self.is_initialized else 0
        width = self.keys.shape[2] if self.is_initialized else 0
        total = n_rows + sum(len(keys) for keys, _ in parts)
        width = max(width, *(keys.shape[2] for keys, _ in parts))
        if not self.is_initialized:
            self._set(parts[0][0][:0], parts[0][1][:0])
        if self._buffers is None or total > len(self._buffers[0]) or width > self._end:
            self._move(total, width, width + SPARE)
        assert self._buffers is not None
        self._first = self._end - width
        for keys_values in parts:
            rows = slice(n_rows, n_rows + len(keys_values[0]))
            middle = self._end - keys_values[0].shape[2]
            for buffer, part in zip(self._buffers, keys_values, strict=True):
                # masked, but 0 times the nan that fresh memory may hold would still be nan
                buffer[rows, :, self._first : middle] = 0
                buffer[rows, :, middle : self._end] = part
            n_rows = rows.stop
        self._show(total)

    def _move(self, n_rows: int, width: int, capacity: int) -> None:
        """Into new buffers, right-aligned in their first `width` columns."""
        fresh = []
        for old in (self.keys, self.values):
            buffer = old.new_empty(n_rows, old.shape[1], capacity, old.shape[3])
            padding = width - old.shape[2]
            buffer[: len(old), :, :padding] = 0
            buffer[: len(old), :, padding:width] = old
            fresh.append(buffer)
        self._buffers = (fresh[0], fresh[1])
        self._first, self._end = 0, width

    def _show(self, n_rows: int) -> None:
        assert self._buffers is not None
        keys, values = (b[:n_rows, :, self._first : self._end] for b in self._buffers)
        self._set(keys, values)

    def _set(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True


def new_cache() -> DynamicCache:
    """An empty cache."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = RowsLayer
    return cache


def drop_rows(
    cache: DynamicCache, holes: Tensor, movers: Tensor, n_rows: int, n_padding: int
) -> None:
    """See `RowsLayer.drop`, for every layer."""
    for layer in cache.layers:
        layer.drop(holes, movers, n_rows, n_padding)


def add_rows(cache: DynamicCache, parts: Iterable[tuple[DynamicCache, Tensor]]) -> None:
    """Append lines of other caches as rows; lines (int64) may repeat."""
    parts = list(parts)
    depth = len(parts[0][0].layers)
    while len(cache.layers) < depth:
        cache.layers.append(RowsLayer())
    for number, layer in enumerate(cache.layers):
        layers = [(part.layers[number], lines) for part, lines in parts]
        layer.add([(part.keys[lines], part.values[lines]) for part, lines in layers])


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
