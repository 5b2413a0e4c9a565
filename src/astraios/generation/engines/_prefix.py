"""What prompts begin with in common, computed once.

Questions of one task begin alike: with a word or two, with a worked example, with a system message
of hundreds of tokens. Keys and values of that beginning are the same in all of them, so they are
computed for one and copied. A pass over prompts then takes their last columns only, and finds what
comes before them in its cache, right-aligned as everywhere:

    cache     columns      known: a b c
    . a b     c d e f      a b c d e f
    a b c     x y z u      a b c x y z u
    . . .     . b q r      shorter than the columns: nothing is taken

Axes: P prompts, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from astraios.generation.engines._cache import RowsLayer, new_cache

__all__ = ["Known", "Place", "worth_knowing"]

WORTH = 256
"""Tokens that must be saved before a beginning is computed by itself."""

Ids = list[int]


@dataclass(frozen=True, eq=False)
class Known:
    """A beginning whose keys and values are known."""

    ids: Ids
    """Its tokens, virtual ones not counted."""
    n_virtual: int
    """Virtual tokens in front of them."""
    cache: DynamicCache
    """One line."""

    def place(self, prompts: Sequence[Ids]) -> Place | None:
        """How much of it a pass over `prompts` takes; None if nothing is to be won."""
        shortest = min(map(len, prompts))
        n_known = min(_in_common([self.ids, *prompts]), shortest - 1)
        width = max(map(len, prompts)) - n_known
        if not n_known or (self.n_virtual and shortest < width):
            return None  # virtual tokens are in the cache only
        return Place(self, n_known, width, tuple(max(0, len(ids) - width) for ids in prompts))


@dataclass(frozen=True, eq=False)
class Place:
    """Where the known beginning lies in front of a pass over some prompts."""

    known: Known
    n_known: int
    """The most tokens that one of them takes."""
    width: int
    """Columns of the pass."""
    taken: tuple[int, ...]
    """Tokens that each prompt takes."""

    def mask(self) -> Tensor:
        """[P, T] of the columns in the cache: 1 for tokens, 0 for padding."""
        return (torch.arange(self._n_columns) >= self._starts()).long()

    def cache(self, device: torch.device) -> DynamicCache:
        """Keys and values of the columns, a line a prompt; padding repeats the first of them."""
        columns_PT = (torch.arange(self._n_columns) - self._starts()).clamp(min=0).to(device)
        cache = new_cache()
        for layer in self.known.cache.layers:
            mine = RowsLayer()
            mine.add([(_spread(layer.keys, columns_PT), _spread(layer.values, columns_PT))])
            cache.layers.append(mine)
        return cache

    @property
    def _n_columns(self) -> int:
        return self.known.n_virtual + self.n_known

    def _starts(self) -> Tensor:
        """[P, 1]: columns of padding in front of each prompt."""
        return torch.tensor([[self.n_known - n] for n in self.taken])


def worth_knowing(prompts: Sequence[Ids], known: Known | None) -> Ids | None:
    """What `prompts` begin with, if knowing it would save more than what is known does."""
    beginning = prompts[0][: min(_in_common(prompts), min(map(len, prompts)) - 1)]
    n_known = 0 if known is None else _in_common([known.ids, beginning])
    more = (len(beginning) - n_known) * (len(prompts) - 1)
    return beginning if more >= WORTH else None


def _in_common(prompts: Sequence[Ids]) -> int:
    """Tokens that all begin with: what the first and the last of them in sorted order share."""
    pairs = zip(min(prompts), max(prompts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _spread(states: Tensor, columns_PT: Tensor) -> Tensor:
    """`[1, H, T', D]` to `[P, H, T, D]`: for each prompt the columns it takes of the one line."""
    return states[0][:, columns_PT].transpose(0, 1)
