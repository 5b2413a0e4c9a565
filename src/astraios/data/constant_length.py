"""The original's rows: one stream of texts, cut into blocks, shuffled a buffer at a time.

    fill      texts are put into a buffer until it holds enough characters
    tokenize  all of it, an end-of-text token behind every text
    cut       into blocks of one length; the last one, if shorter, is left out
    shuffle   the blocks of the buffer, by the `random` module seeded once

Blocks are not isolated: a text begins in one and ends in the next, and sees what stands before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from astraios.data.tokens import Counts, Documents, Encoder, Ids, Mask, TrainingText
from astraios.errors import DataError

Passes = Callable[[], Iterator[TrainingText]]
"""Begins to read the corpus, every time it is called."""

MEASURED = 400
"""Records by which characters a token are measured, as in the original."""

PATIENCE = 1_000
"""Buffers in a row that give no block before an endless stream is given up."""


@dataclass(frozen=True)
class Block:
    """A row of the original's."""

    ids: Ids
    in_loss: Mask
    lengths: Counts
    """Tokens of each text, or part of one, that is in it."""
    names: list[str]


@dataclass(frozen=True)
class Buffer:
    """What a buffer gave."""

    documents: Documents
    blocks: list[Block]
    n_passes: int
    """How often the corpus was begun, up to here."""

    @property
    def n_left_over(self) -> int:
        """Tokens of the last, short block."""
        return len(self.documents.ids) - sum(len(block.ids) for block in self.blocks)


def measure(texts: list[TrainingText], encoder: Encoder) -> float:
    """Characters a token of `texts`, end-of-text tokens not counted.

    Raises:
        DataError: if they have no characters.
    """
    n_characters = sum(len(text.text) for text in texts)
    n_tokens = len(encoder.encode(texts).ids) - sum(not text.closed for text in texts)
    if not n_characters or not n_tokens:
        raise DataError(f"the first {len(texts)} records have no text to measure tokens by")
    return n_characters / n_tokens


def buffers(
    passes: Passes, encoder: Encoder, block_length: int, size: float, seed: int, *, endless: bool
) -> Iterator[Buffer]:
    """Fill, tokenize, cut and shuffle one buffer after the other.

    Args:
        passes: reads the corpus.
        encoder: makes documents of texts.
        block_length: tokens a block has.
        size: characters that fill a buffer; checked before each text, so it is passed by one.
        seed: of the shuffling.
        endless: whether the corpus begins anew, within a buffer, where it ends.

    Raises:
        DataError: if an endless stream will never give a block.
    """
    chance = random.Random(seed)
    n_fruitless = 0
    for texts, n_passes in _fill(passes, size, endless=endless):
        documents = encoder.encode(texts)
        blocks = _cut(documents, block_length)
        chance.shuffle(blocks)
        yield Buffer(documents, blocks, n_passes)
        n_fruitless = 0 if blocks else n_fruitless + 1
        if endless and n_fruitless == PATIENCE:
            raise DataError(
                f"{PATIENCE} buffers of {size:.0f} characters gave no block of {block_length} "
                "tokens; raise n_buffered or characters_per_token"
            )


def _fill(
    passes: Passes, size: float, *, endless: bool
) -> Iterator[tuple[list[TrainingText], int]]:
    """The texts of each buffer, and how often the corpus was begun."""
    texts: list[TrainingText] = []
    n_characters = n_passes = 0
    while True:
        n_read = 0
        n_passes += 1
        for text in passes():
            if n_characters >= size:
                yield texts, n_passes
                texts, n_characters = [], 0
            texts.append(text)
            n_characters += len(text.text)
            n_read += len(text.text)
        if not endless:
            if texts:
                yield texts, n_passes
            return
        if not n_read:
            raise DataError("the records of the corpus have no text to fill a buffer with")


def _cut(documents: Documents, block_length: int) -> list[Block]:
    """Whole blocks, each with the parts of texts that it holds."""
    ends = np.cumsum(documents.lengths)
    blocks = []
    for start in range(0, len(documents.ids) - block_length + 1, block_length):
        stop = start + block_length
        first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
        edges = np.concatenate([[start], ends[first:last], [stop]])
        blocks.append(
            Block(
                documents.ids[start:stop],
                documents.in_loss[start:stop],
                np.diff(edges),
                documents.names[first : last + 1],
            )
        )
    return blocks
