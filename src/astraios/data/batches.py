"""Order of rows: batches in random order, of rows of similar length or of any."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Lengths: TypeAlias = Sequence[int] | NDArray[np.int32]

WINDOW = 20
"""Batches that are sorted together: enough to save padding, few enough to stay random."""


def bucketed(lengths: Lengths, batch_size: int, seed: int) -> list[list[int]]:
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


def shuffled(lengths: Lengths, batch_size: int, seed: int) -> list[list[int]]:
    """Shuffle rows and cut them into whole batches, whatever their lengths.

    For rows that are about equally long, as packed ones are. A last incomplete batch is dropped.

    Args:
        lengths: tokens of each row; only how many there are matters.
        batch_size: rows a batch.
        seed: equal seeds give equal batches.

    Returns:
        Batches of positions in `lengths`.
    """
    order = list(range(len(lengths)))
    random.Random(f"shuffled/{seed}").shuffle(order)
    whole = len(order) - len(order) % batch_size
    return [order[at : at + batch_size] for at in range(0, whole, batch_size)]
