"""Greedy tokens with their log-probabilities, seen as they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from astraios.generation import Drawn
from astraios.generation.engines._rows import Row

__all__ = ["Record"]

N_OTHERS = 5
"""Most probable tokens told at each place."""


@dataclass(frozen=True)
class Record:
    """Watches a decode loop and remembers what was probable at each place of each row."""

    places: dict[tuple[Row, int], tuple[list[int], list[float]]] = field(default_factory=dict)

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> None:
        n_tokens = min(N_OTHERS, logits_BV.shape[-1])
        values_BK, ids_BK = logits_BV.float().log_softmax(-1).topk(n_tokens)
        told = zip(rows, ids_BK.tolist(), values_BK.tolist(), strict=True)
        for row, ids, values in told:
            if row.finish is None:
                self.places[row, len(row.ids)] = ids, values

    def of(self, row: Row, spelling: Callable[[int], str]) -> list[Drawn]:
        """What `row` drew, token by token."""
        return [self._drawn(row, place, token, spelling) for place, token in enumerate(row.ids)]

    def _drawn(self, row: Row, place: int, token: int, spelling: Callable[[int], str]) -> Drawn:
        ids, values = self.places[row, place]
        others: dict[str, float] = {}
        for other, value in zip(ids, values, strict=True):
            others.setdefault(spelling(other), value)  # pieces of characters look alike
        # Of equal logits the drawing and this ranking may take different ones.
        value = values[ids.index(token)] if token in ids else values[0]
        others.setdefault(spelling(token), value)
        return Drawn(text=spelling(token), log_probability=value, others=others, id=token)
