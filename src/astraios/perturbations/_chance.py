"""Chance that is the same on every machine and under every version of Python.

`random.Random` promises that for `random()` alone; what `choice` and `sample` make of it has
changed between versions. Here every draw is a SHA-256 of the key and a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")

_BITS = 64


class Chance:
    """Draws from a key; equal keys give equal draws."""

    def __init__(self, *key: str) -> None:
        self._key = sha256("\x00".join(key).encode()).digest()
        self._n_drawn = 0

    def _draw(self) -> int:
        self._n_drawn += 1
        block = sha256(self._key + self._n_drawn.to_bytes(8, "big")).digest()
        return int.from_bytes(block[: _BITS // 8], "big")

    def below(self, n: int) -> int:
        """A number in 0..n-1; the bias of the scaling is below n / 2^64."""
        return self._draw() * n >> _BITS

    def happens(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`, which must not be empty."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], percent: int) -> list[T]:
        """Each of `options` with a chance of `percent`, in order; one where chance takes none."""
        taken = [option for option in options if self.happens(percent)]
        return taken or ([self.choice(options)] if options else [])
