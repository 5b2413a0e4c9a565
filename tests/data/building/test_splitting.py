"""Draws that depend on a seed and on ids alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.building.splitting import drawn, held_out, shuffled
from astraios.errors import DataError

IDS = [f"row-{i}" for i in range(200)]
PROMPTS = [f"prompt-{i}".encode() for i in range(200)]


def test_as_many_are_drawn_as_asked_for_or_all():
    assert len(drawn(IDS, 30, 0, "x")) == 30
    assert drawn(IDS, 500, 0, "x") == set(range(200))


def test_draws_differ_by_seed_and_purpose():
    sets = {frozenset(drawn(IDS, 30, *key)) for key in ((0, "x"), (1, "x"), (0, "y"))}
    assert len(sets) == 3


def test_draw_does_not_depend_on_the_order_of_rows():
    chosen = {IDS[at] for at in drawn(IDS, 30, 0, "x")}
    assert {IDS[::-1][at] for at in drawn(IDS[::-1], 30, 0, "x")} == chosen


@given(st.lists(st.text(), unique=True))
def test_order_has_every_row_once(ids):
    assert sorted(shuffled(ids, 3)) == list(range(len(ids)))


def test_order_is_not_that_of_the_input():
    assert shuffled(IDS, 0) != list(range(200))
    assert [IDS[at] for at in shuffled(IDS, 0)] == [IDS[::-1][at] for at in shuffled(IDS[::-1], 0)]


@pytest.mark.parametrize(("wanted", "n"), [(1, 1), (37, 37), (0.1, 20), (0.001, 1)])
def test_number_or_share_is_held_out(wanted, n):
    assert len(held_out(PROMPTS, wanted, 0)) == n


@given(st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=60))
def test_rows_of_one_prompt_stay_together(letters):
    prompts = [letter.encode() for letter in letters]
    try:
        held = held_out(prompts, 10, 0)
    except DataError:
        assert min(letters.count(letter) for letter in letters) > 10
        return
    assert len(held) <= 10
    assert not {letters[at] for at in held} & {
        letter for at, letter in enumerate(letters) if at not in held
    }


@pytest.mark.parametrize("wanted", [200, 201])
def test_nothing_left_to_train_on_is_an_error(wanted):
    with pytest.raises(DataError, match="200 that are left"):
        held_out(PROMPTS, wanted, 0)


def test_prompt_asked_too_often_is_an_error():
    with pytest.raises(DataError, match="more than 2 rows"):
        held_out([b"same"] * 10, 2, 0)
