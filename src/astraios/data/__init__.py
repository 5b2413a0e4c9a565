"""From instruction records to rows that a trainer takes.

`corpora/` holds one file a source, exporting `corpus`; `tokens.py` makes ids and a loss mask,
`packing.py` joins documents into blocks, `batches.py` orders rows by length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from astraios.records import InstructionRecord

__all__ = ["Corpus", "Row"]


class Corpus(ABC):
    """A source of instruction records."""

    name: str
    title: str
    licence: str

    @abstractmethod
    def records(self, split: str, seed: int, data_dir: Path | None) -> Iterator[InstructionRecord]:
        """Records of `train` or `validation`, in a fixed order for a seed; may be endless.

        Raises:
            MissingDataError: where the data was looked for and how to get it.
        """


@dataclass(frozen=True)
class Row:
    """Tokens that go through a model together; the three lists are equally long."""

    ids: list[int]
    labels: list[int]
    """The id itself where the token counts in the loss, else -100."""
    positions: list[int]
    """Position of each token; restarts at 0 where a packed document begins."""
