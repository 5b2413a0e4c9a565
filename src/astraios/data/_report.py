"""What a packing tells about itself: `report.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import Field

from astraios.records import Record

N_LISTED = 20
"""Dropped records that are named."""


class Shard(Record):
    """One file of rows."""

    name: str
    n_rows: int
    n_bytes: int
    sha256: str


class SplitReport(Record):
    """What became of the records of one split."""

    n_records: int = 0
    """Records read, each time anew where the corpus is passed over more than once."""
    n_passes: int = 1
    n_documents: int = 0
    """Documents in rows: pieces of a split record count each, dropped records do not. Layout
    `constant_length`: all that were tokenized."""
    n_tokens: int = 0
    """Tokens in rows."""
    n_target_tokens: int = 0
    """Of them, those that a loss is computed on."""
    n_rows: int = 0
    utilisation: float = 0.0
    """Tokens as a share of rows times block_length."""
    longest_document: int = 0
    """Tokens of the longest record, before anything is split or dropped."""
    n_split: int = 0
    """Records longer than a row, cut into pieces."""
    n_dropped: int = 0
    """Records longer than a row, left out."""
    dropped: tuple[str, ...] = ()
    """The first of them."""
    n_straddling: int = 0
    """Tokens that hold characters of the prompt and of the response; they count in the loss."""
    n_left_over: int = 0
    """Tokens in no row: the short ends of buffers, and what more `n_rows` would have used."""


class PackReport(Record):
    """A corpus tokenized and packed."""

    characters_per_token: float | None = None
    """By which the buffer of the layout `constant_length` was measured."""
    train: SplitReport
    validation: SplitReport
    shards: tuple[Shard, ...] = Field(repr=False)


@dataclass
class Tally:
    """A `SplitReport` while it is counted."""

    n_records: int = 0
    n_passes: int = 1
    n_documents: int = 0
    n_tokens: int = 0
    n_target_tokens: int = 0
    n_rows: int = 0
    longest_document: int = 0
    n_split: int = 0
    n_dropped: int = 0
    dropped: tuple[str, ...] = ()
    n_straddling: int = 0
    n_left_over: int = 0

    def report(self, block_length: int) -> SplitReport:
        """What was counted, once there are rows."""
        utilisation = self.n_tokens / (self.n_rows * block_length)
        return SplitReport(**asdict(self), utilisation=utilisation)
