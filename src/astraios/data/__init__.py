"""From raw commits and conversations to instruction records to rows that a trainer takes.

rules/       what of a raw source is kept: named rules in a declared order
building/    the stage `data build`: sources, rules, duplicates, secrets, test sets, splits
corpora/     sources of instruction records, one file each, exporting `corpus`
tokens.py    records to token ids and a loss mask
packing.py   documents to rows of bounded length
blocks.py    rows on disk, memory-mapped
pack.py      the stage `pack`: a corpus tokenized once
batches.py   the order in which rows are seen
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from astraios.records import InstructionRecord

__all__ = ["Corpus", "Row", "Tokens"]

Tokens: TypeAlias = Sequence[int] | NDArray[np.int32]


class Corpus(ABC):
    """A source of instruction records."""

    name: str
    title: str
    licence: str
    endless: bool = False
    """Whether `records` never ends."""

    @abstractmethod
    def data_hash(self, data_dir: Path | None) -> str:
        """What tells these data from others: a digest of the files, or a hub's revision."""

    @abstractmethod
    def records(self, split: str, seed: int, data_dir: Path | None) -> Iterator[InstructionRecord]:
        """Records of `train` or `validation`, in a fixed order for a seed; may be endless.

        Raises:
            MissingDataError: where the data was looked for and how to get it.
        """


@dataclass(frozen=True)
class Row:
    """Tokens that go through a model together; the three are equally long."""

    ids: Tokens
    """Lists, or one-dimensional arrays of numpy."""
    labels: Tokens
    """The id itself where the token counts in the loss, else -100."""
    positions: Tokens
    """Position of each token; restarts at 0 where a packed document begins."""
