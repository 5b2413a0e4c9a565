"""Order of rows: batches of similar length, in random order."""

from __future__ import annotations

import random
from collections.abc import Sequence

WINDOW = 20
"""Batches that are sorted together: enough to save padding, few enough to stay random."""


def bucketed(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Divide rows into whole batches of similar length and shuffle the batches.

    Rows are shuffled, sorted by length within `WINDOW` batches and cut into batches; a last
    incomplete batch is dropped.

    Args:
        lengths: tokens of each row.
        batch_size: rows a batch.
        seed: equal seeds give equal batches.

    Returns:
        Batches of positions in `lengths`.
    """
    chance = random.Random(f"bucketed/{seed}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    span = WINDOW * batch_size
    ordered = [
        at
        for start in range(0, len(order), span)
        for at in sorted(order[start : start + span], key=lambda at: lengths[at])
    ]
    whole = len(ordered) - len(ordered) % batch_size
    batches = [ordered[at : at + batch_size] for at in range(0, whole, batch_size)]
    chance.shuffle(batches)
    return batches
