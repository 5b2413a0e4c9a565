"""Scores of a task from its verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.records import Outcome, Verdict
from astraios.tasks._pass_rates import pass_rates

PASSED, FAILED, FAULT = Outcome.PASSED, Outcome.FAILED, Outcome.FAULT

tables = st.dictionaries(
    st.sampled_from("abcdef"),
    st.lists(st.sampled_from([PASSED, FAILED, FAULT, Outcome.FORGED]), min_size=1, max_size=12),
    min_size=1,
)


def verdicts(table):
    return [
        Verdict(problem_id=name, index=index, group=name, outcome=outcome)
        for name, outcomes in table.items()
        for index, outcome in enumerate(outcomes)
    ]


def test_pass_at_1_is_the_mean_over_problems_not_over_samples():
    [score] = pass_rates("t", verdicts({"a": [PASSED], "b": [FAILED] * 3}))
    assert (score.metric, score.value, score.n_problems, score.n_samples) == ("pass@1", 0.5, 2, 4)


def test_pass_at_10_needs_ten_samples_of_every_problem():
    ten = [PASSED] + [FAILED] * 9
    both = pass_rates("t", verdicts({"a": ten, "b": ten}))
    short = pass_rates("t", verdicts({"a": ten, "b": ten[:9]}))
    assert [score.metric for score in both] == ["pass@1", "pass@10"]
    assert both[1].value == 1
    assert [score.metric for score in short] == ["pass@1"]


def test_pass_at_100_is_reported_from_a_hundred_samples():
    scores = pass_rates("t", verdicts({"a": [FAILED] * 100}))
    assert [score.metric for score in scores] == ["pass@1", "pass@10", "pass@100"]


@given(tables)
def test_faults_are_counted_apart_and_never_as_failures(table):
    without = {k: [o for o in v if o is not FAULT] for k, v in table.items()}
    some, none = pass_rates("t", verdicts(table))[0], pass_rates("t", verdicts(without))[0]
    n_faults = sum(outcomes.count(FAULT) for outcomes in table.values())
    assert (some.value, some.low, some.high) == (none.value, none.low, none.high)
    assert (some.n_faults, some.n_samples) == (n_faults, none.n_samples)


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_verdicts_changes_nothing(table, random):
    shuffled = verdicts(table)
    random.shuffle(shuffled)
    assert pass_rates("t", shuffled) == pass_rates("t", verdicts(table))


@pytest.mark.parametrize("table", [{}, {"a": [FAULT]}])
def test_nothing_counted_has_no_value(table):
    [score] = pass_rates("t", verdicts(table))
    assert (score.value, score.low, score.high, score.n_problems) == (None, None, None, 0)
