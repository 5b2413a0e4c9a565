"""Rows of one document, and the order rows are seen in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.batches import bucketed, shuffled
from astraios.data.tokens import IGNORED, TokenizedRecord, row


def test_labels_are_ids_where_they_count() -> None:
    made = row(TokenizedRecord([5, 6, 7], [False, True, True]), offset=4)
    assert made.labels == [IGNORED, 6, 7]
    assert made.positions == [4, 5, 6]


@pytest.mark.parametrize("order_of", [bucketed, shuffled])
@given(st.lists(st.integers(1, 99), max_size=200), st.integers(1, 9), st.integers(0, 5))
def test_batches_are_whole_and_use_no_row_twice(
    order_of: object, lengths: list[int], size: int, seed: int
) -> None:
    batches = order_of(lengths, size, seed)
    used = [at for batch in batches for at in batch]
    assert all(len(batch) == size for batch in batches)
    assert len(used) == len(set(used)) == len(lengths) - len(lengths) % size
    assert batches == order_of(np.array(lengths, np.int32), size, seed)


@pytest.mark.parametrize("order_of", [bucketed, shuffled])
def test_another_seed_gives_another_order(order_of: object) -> None:
    lengths = list(range(1, 65))
    assert order_of(lengths, 4, 0) != order_of(lengths, 4, 1)
