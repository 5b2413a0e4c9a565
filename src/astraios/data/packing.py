"""Documents joined into rows of bounded length, isolated from each other.

Positions restart at 0 with every document. transformers turns that into an attention mask that
keeps documents apart, but only while no `attention_mask` is passed and no cache is made, so models
train and are evaluated with `use_cache=False`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from astraios.data import Row
from astraios.data.tokens import TokenizedRecord, row
from astraios.errors import DataError


def pack(documents: Iterable[TokenizedRecord], length: int) -> Iterator[Row]:
    """Fill rows of at most `length` tokens with whole documents, in order.

        documents   [5 5 5] [6 6] [7]          length 5
        ids         [5 5 5 6 6]  [7]
        positions   [0 1 2 0 1]  [0]

    Raises:
        DataError: if a document is longer than a row.
    """
    held: list[Row] = []
    n_held = 0
    for number, document in enumerate(documents):
        n = len(document.ids_T)
        if n > length:
            raise DataError(
                f"record {number} has {n} tokens, more than block_length {length}; "
                "raise block_length or leave the record out"
            )
        if n_held + n > length:
            yield _join(held)
            held, n_held = [], 0
        held.append(row(document))
        n_held += n
    if held:
        yield _join(held)


def _join(rows: list[Row]) -> Row:
    return Row(
        [token for part in rows for token in part.ids],
        [label for part in rows for label in part.labels],
        [position for part in rows for position in part.positions],
    )
