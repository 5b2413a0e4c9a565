"""Which problems of a labelled test split are asked about: the paper's draw, and a fair one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """How many problems of each class are drawn."""

    n_negative: int
    n_positive: int

    def positions(self, labels: Sequence[bool]) -> list[int] | None:
        """Places in `labels` in the order of the sample; None if a class has too few.

        The negatives come first out of one stream of `random.seed(0)`, then the positives; then all
        are permuted by NumPy's generator with seed 0, which is what `datasets`' `shuffle(seed=0)`
        does.
        """
        negatives = [at for at, label in enumerate(labels) if not label]
        positives = [at for at, label in enumerate(labels) if label]
        if len(negatives) < self.n_negative or len(positives) < self.n_positive:
            return None
        stream = random.Random(0)
        drawn = [negatives[at] for at in stream.sample(range(len(negatives)), self.n_negative)]
        drawn += [positives[at] for at in stream.sample(range(len(positives)), self.n_positive)]
        order = np.random.default_rng(0).permutation(len(drawn))
        return [drawn[at] for at in order]


def stratified(labels: Sequence[bool], n: int) -> list[int]:
    """`n` places of `labels` in file order, the classes in their shares; all if there are fewer."""
    if len(labels) <= n:
        return list(range(len(labels)))
    positives = [at for at, label in enumerate(labels) if label]
    n_positive = round(n * len(positives) / len(labels))
    negatives = [at for at, label in enumerate(labels) if not label]
    stream = random.Random(0)
    chosen = stream.sample(negatives, n - n_positive) + stream.sample(positives, n_positive)
    return sorted(chosen)
