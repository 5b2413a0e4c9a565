"""Scores of all arms, redrawn: means, errors, seeds, holes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.analysis.draws import Estimate, complete_block, draws

Make = Callable[..., "object"]


def frame(values: dict[tuple[str, int], list[float]], task: str = "t") -> pd.DataFrame:
    """Values of (method, seed) on problems 0, 1, ..."""
    return pd.DataFrame(
        [
            {"model": "m", "method": a, "seed": s, "task": task, "group": f"{i:03}", "value": v}
            for (a, s), own in values.items()
            for i, v in enumerate(own)
        ]
    )


def weigh(found, **signs: float) -> np.ndarray:
    weight = np.zeros(found.score_MK.shape)
    for method, sign in signs.items():
        weight[found.row("m", method)] = sign
    return weight


def test_error_of_a_difference_is_that_of_paired_problems():
    random = np.random.default_rng(0)
    hard = random.random(400)
    a, b = (random.random(400) < hard).astype(float), (random.random(400) < hard).astype(float)
    found = draws(frame({("a", 0): list(a), ("b", 0): list(b)}), n_redraws=4000)
    estimate = found.linear(weigh(found, a=1.0, b=-1.0))
    assert estimate.value == pytest.approx((a - b).mean())
    paired = (a - b).std() / np.sqrt(400)
    assert estimate.error == pytest.approx(np.hypot(paired, np.sqrt(2) / 402), rel=0.05)
    assert estimate.low < estimate.value < estimate.high


def test_methods_that_agree_on_every_problem_are_not_equal_beyond_doubt():
    found = draws(frame({("a", 0): [1.0] * 20, ("b", 0): [1.0] * 20}))
    estimate = found.linear(weigh(found, a=1.0, b=-1.0))
    assert estimate.value == 0
    assert estimate.high > 0.1


def test_any_statistic_has_the_error_and_the_freedom_of_what_it_reads():
    random = np.random.default_rng(1)
    many = frame({(a, 0): list(random.integers(0, 2, 200) * 1.0) for a in ("a", "b")})
    few = frame({(a, 0): [1.0] * 20 for a in ("a", "b")}, task="few")
    found = draws(pd.concat([many, few.assign(group="few" + few["group"])]))
    for task in ("few", "t"):
        weight = np.zeros(found.score_MK.shape)
        weight[[found.row("m", "a"), found.row("m", "b")], found.tasks.index(task)] = (1, -1)
        wanted = found.linear(weight)
        same = found.of(lambda score, weight=weight: (score * weight).sum(axis=(-2, -1)))
        assert (same.value, same.error, same.df) == pytest.approx(
            (wanted.value, wanted.error, wanted.df)
        )
        assert same.error > 0.01


def test_spread_of_seeds_widens_differences_and_is_lent_to_arms_of_one_seed():
    flat = [1.0, 0.0] * 50
    up, down = [1.0] * 60 + [0.0] * 40, [1.0] * 40 + [0.0] * 60
    one = draws(frame({("a", 0): flat, ("b", 0): flat}))
    many = draws(frame({("a", 0): flat, ("b", 0): up, ("b", 1): down}))
    assert (one.n_spare_seeds, many.n_spare_seeds) == (0, 1)
    assert many.seeds_RMK[:, many.row("m", "a")].std() > 0.1  # sqrt(2) times 0.1
    assert many.seeds_RMK[:, many.row("m", "b")].std() == pytest.approx(0.1, rel=0.1)


def test_no_seed_changes_the_untuned_base():
    found = draws(frame({("base", 0): [1.0, 0.0], ("b", 0): [1.0, 1.0], ("b", 1): [0.0, 0.0]}))
    assert not found.seeds_RMK[:, found.row("m", "base")].any()


def test_the_untuned_base_tells_nothing_of_how_seeds_differ():
    tuned = {("b", 0): [1.0, 1.0], ("b", 1): [0.0, 0.0]}
    base = {("base", seed): [1.0, 0.0] for seed in range(5)}
    alone, both = draws(frame(tuned)), draws(frame(tuned | base))
    assert both.n_spare_seeds == alone.n_spare_seeds == 1
    spread = alone.seeds_RMK[:, alone.row("m", "b")].std()
    assert both.seeds_RMK[:, both.row("m", "b")].std() == pytest.approx(spread, rel=0.1)


def test_tasks_on_the_same_problems_are_redrawn_together():
    values = {("a", 0): [1.0, 0.0, 1.0, 1.0]}
    both = pd.concat([frame(values, "t"), frame(values, "u")])
    found = draws(both)
    assert (found.problems_RMK[:, 0, 0] == found.problems_RMK[:, 0, 1]).all()
    apart = frame(values, "u").assign(group=lambda rows: "other" + rows["group"])
    found = draws(pd.concat([frame(values, "t"), apart]))
    assert (found.problems_RMK[:, 0, 0] != found.problems_RMK[:, 0, 1]).any()


def test_order_of_rows_does_not_matter():
    rows = frame({("a", 0): [1.0, 0.0, 0.5], ("b", 1): [0.0, 0.0, 1.0], ("b", 0): [1.0, 0.0, 1.0]})
    one, two = draws(rows), draws(rows.sample(frac=1, random_state=3))
    assert (one.redrawn == two.redrawn).all()


def test_problems_without_a_value_are_left_out():
    found = draws(frame({("a", 0): [1.0, float("nan"), 0.0, 1.0]}))
    assert found.score_MK[0, 0] == pytest.approx(2 / 3)
    assert found.n_MK[0, 0] == 3


def test_nothing_is_drawn_from_nothing():
    found = draws(frame({("a", 0): [float("nan")]}))
    assert found.cells == ()
    assert not found.judged("m", "a", "t")


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(-1, 1))
def test_one_sided_p_values_add_up_to_one(value: float, error: float, bound: float):
    estimate = Estimate(value, error, 7.0)
    assert estimate.p_above(bound) + estimate.p_below(bound) == pytest.approx(1)


def test_block_drops_the_task_that_lacks_most():
    holes = {("b", "t3"), ("c", "t3")}
    block = complete_block("abc", ("t1", "t2", "t3"), lambda a, t: (a, t) not in holes)
    assert block == (("a", "b", "c"), ("t1", "t2"))


@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 3))))
def test_block_has_no_holes_and_keeps_the_row_asked_for(holes: set[tuple[int, int]]):
    rows, columns = [f"r{i}" for i in range(5)], [f"c{i}" for i in range(4)]

    def has(row: str, column: str) -> bool:
        return (int(row[1:]), int(column[1:])) not in holes

    kept, tasks = complete_block(rows, columns, has, keep="r2")
    assert all(has(row, column) for row in kept for column in tasks)
    if any(has("r2", column) for column in columns):
        assert "r2" in kept
        assert tasks


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_differences_of_all_pairs_are_those_of_each_pair(make: Make, n_seeds: int):
    study = make(lambda m, a, t: 0.5, sizes={"m": 1_000_000}, n=40, n_seeds=n_seeds)
    found = draws(study.units, n_redraws=200)
    share = np.array([0.3, 0.7])
    every = found.differences(range(len(found.cells)), share)
    for i, j in itertools.permutations(range(len(found.cells)), 2):
        weight = np.zeros(found.score_MK.shape)
        weight[i], weight[j] = share, -share
        one, same = found.linear(weight), every.of(i, j)
        assert (same.value, same.error, same.df) == pytest.approx((one.value, one.error, one.df))
        raw = 2 * min(one.p_above(0), one.p_below(0))
        assert every.p_equal()[i, j] == pytest.approx(min(1.0, raw))
