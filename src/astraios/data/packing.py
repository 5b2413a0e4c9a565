"""Documents to rows of bounded length: which document goes where, and what a row becomes.

Best fit decreasing, by lengths alone: the longest documents first, each into the row with the least
space that is enough, else into a new one (Ding et al. 2024, arXiv:2404.10830). Rows are numbered by
their first document and hold their documents in order, so a row's neighbours are the corpus's.

Positions restart at 0 with every document. transformers turns that into an attention mask that
keeps documents apart, but only while no `attention_mask` is passed and no cache is made, so models
train and are evaluated with `use_cache=False`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from astraios.data import Row
from astraios.data.tokens import IGNORED, Counts, Documents, Ids, Mask
from astraios.errors import DataError


def best_fit(lengths: Counts, block_length: int) -> Counts:
    """The number of the row that each document goes into.

    One step a document, whatever the number of rows: which amounts of space are to be had is one
    integer of `block_length` bits, and the least that is enough is its lowest bit from there on.

        lengths 5 3 2 6 2, block_length 8   ->   rows 0 0 1 1 2

    Args:
        lengths: tokens of each document, 1 to `block_length`.
        block_length: tokens a row has at most.
    """
    rows = np.zeros(len(lengths), np.int64)
    with_space: list[list[int]] = [[] for _ in range(block_length + 1)]
    spaces = n_rows = 0
    order = np.argsort(-lengths, kind="stable")
    for document, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        enough = spaces >> length
        if enough:
            space = length + (enough & -enough).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            space, row, n_rows = block_length, n_rows, n_rows + 1
        rows[document] = row
        left = space - length
        if left:
            with_space[left].append(row)
            spaces |= 1 << left
    _, first, number = np.unique(rows, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def documents_by_row(rows: Counts) -> Iterator[Counts]:
    """The documents of row 0, of row 1, and so on, each in order."""
    order = np.argsort(rows, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(rows))[:-1])


def isolated_row(ids: Ids, in_loss: Mask, lengths: Any) -> Row:
    """A row whose documents, of these `lengths`, do not see each other."""
    starts = (np.cumsum(lengths) - lengths).astype(np.int32)
    positions = np.arange(len(ids), dtype=np.int32) - np.repeat(starts, lengths)
    return Row(ids, _labels(ids, in_loss), positions)


def open_row(ids: Ids, in_loss: Mask) -> Row:
    """A row in which everything sees all that stands before it."""
    return Row(ids, _labels(ids, in_loss), np.arange(len(ids), dtype=np.int32))


def _labels(ids: Ids, in_loss: Mask) -> Ids:
    return np.where(in_loss, ids, np.int32(IGNORED))


@dataclass(frozen=True)
class Fitted:
    """Documents that fit a row, and what became of those that did not."""

    documents: Documents
    n_split: int = 0
    dropped: tuple[str, ...] = ()


def fitted(
    documents: Documents,
    block_length: int,
    too_long: Literal["error", "split", "drop"],
    corpus: str,
) -> Fitted:
    """Deal with documents longer than a row.

    `split` cuts pieces of `block_length`; each is a document of its own from there on, so that its
    positions begin at 0 and what came before it is not seen.

    Raises:
        DataError: if there is one and the policy is `error`.
    """
    lengths = documents.lengths
    long = lengths > block_length
    if not long.any():
        return Fitted(documents)
    if too_long == "error":
        at = int(np.argmax(long))
        raise DataError(
            f"record {documents.names[at]!r} of corpus {corpus!r} has {lengths[at]} tokens, more "
            f"than block_length {block_length}; raise block_length, or set too_long to split or "
            "drop"
        )
    if too_long == "drop":
        kept = np.repeat(~long, lengths)
        names = [n for n, out in zip(documents.names, long.tolist(), strict=True) if not out]
        dropped = [n for n, out in zip(documents.names, long.tolist(), strict=True) if out]
        rest = Documents(
            documents.ids[kept],
            documents.in_loss[kept],
            lengths[~long],
            names,
            documents.n_straddling,
        )
        return Fitted(rest, dropped=tuple(dropped))
    n_pieces = -(-lengths // block_length)
    pieces = np.full(int(n_pieces.sum()), block_length, np.int64)
    pieces[np.cumsum(n_pieces) - 1] = lengths - (n_pieces - 1) * block_length
    names = [n for n, k in zip(documents.names, n_pieces.tolist(), strict=True) for _ in range(k)]
    cut = Documents(documents.ids, documents.in_loss, pieces, names, documents.n_straddling)
    return Fitted(cut, n_split=int(long.sum()))


def isolated(documents: Documents) -> Documents:
    """`documents` without their first tokens in the loss: nothing before them tells of them."""
    in_loss = documents.in_loss.copy()
    in_loss[documents.starts] = False
    return Documents(
        documents.ids, in_loss, documents.lengths, documents.names, documents.n_straddling
    )
