"""Rows that are nearly the same as an earlier one, found by MinHash.

Two texts are compared by the Jaccard index of their sets of word runs. The signatures and the bands
that find candidates are `rensa`'s; every candidate is then compared exactly, so nothing is dropped
that is less alike than the threshold. What the bands miss stays: with 128 permutations, one pair in
six thousand of those that are just alike enough at 0.7, fewer above.

`rensa` and not `datasketch`: on 1,500 pairs its estimate errs less (0.026 against 0.032), it makes
30,000 signatures a CPU-second against 3,400 (`benchmarks/data.py --libraries`), and it does not
bring SciPy along. It is the younger of the two and has changed its hashes between versions; as
candidates are compared exactly, that can only move what the bands miss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from astraios.data.building.words import shingles
from astraios.errors import ConfigError, MissingToolError

RECALL = 0.99
"""Of pairs just alike enough, the share that the bands have to find."""
_DEVIATIONS = 4
"""An estimate may err by so many standard deviations before its pair is not compared exactly."""


def n_bands(threshold: float, permutations: int) -> int:
    """The fewest bands that find `RECALL` of the pairs at the threshold.

    With b bands of r rows, a pair of Jaccard index t is a candidate with probability
    1 - (1 - t^r)^b (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2).
    """
    for bands in range(1, permutations + 1):
        rows, rest = divmod(permutations, bands)
        if not rest and 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands
    return permutations


@dataclass
class NearDuplicates:
    """The rows so far, and which of them a new one resembles."""

    threshold: float
    size: int
    """Words of a run."""
    permutations: int
    seed: int
    text_of: Callable[[int], str]
    """The text of an earlier row by its number, read again to be compared."""
    _index: Any = field(init=False)
    _signatures: dict[int, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            from rensa import RMinHashLSH
        except ModuleNotFoundError:
            raise MissingToolError(
                "near-duplicates are found with rensa; install it with: pip install "
                "'astraios[data]', or set near_duplicates to null"
            ) from None
        bands = n_bands(self.threshold, self.permutations)
        if self.permutations % bands:
            raise ConfigError(f"near_duplicates: {self.permutations} permutations have no bands")
        self._index = RMinHashLSH(
            threshold=self.threshold, num_perm=self.permutations, num_bands=bands
        )

    def add(self, number: int, text: str) -> tuple[int, float] | None:
        """Take up a row, unless it resembles an earlier one: its number and their Jaccard index."""
        from rensa import RMinHash

        # the estimate is a share of `permutations` draws that agree
        deviation = (self.threshold * (1 - self.threshold) / self.permutations) ** 0.5
        least = self.threshold - _DEVIATIONS * deviation
        runs = shingles(text, self.size)
        (signature,) = RMinHash.from_token_sets(
            [sorted(runs)], num_perm=self.permutations, seed=self.seed
        )
        for other in sorted(self._index.query(signature)):
            if signature.jaccard(self._signatures[other]) < least:
                continue
            theirs = shingles(self.text_of(other), self.size)
            alike = len(runs & theirs) / len(runs | theirs)
            if alike >= self.threshold:
                return other, alike
        self._index.insert(number, signature)
        self._signatures[number] = signature
        return None
