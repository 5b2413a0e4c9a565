"""pass@k and the bootstrap: properties that hold for all inputs, and a few values by hand."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from astraios import metrics
from astraios.metrics import bootstrap_mean, pass_at_k, sign_p_value

fractions = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=12)


@given(n=st.integers(1, 8), data=st.data())
def test_pass_at_k_equals_counting_all_draws(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@given(n=st.integers(1, 300), data=st.data())
def test_pass_at_1_is_the_fraction_that_passed(n, data):
    c = data.draw(st.integers(0, n))
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)


@given(n=st.integers(2, 300), data=st.data())
def test_more_tries_never_hurt(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n - 1))
    assert pass_at_k(n, c, k) <= pass_at_k(n, c, k + 1)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6), (0, 0, 1)])
def test_pass_at_k_refuses_counts_that_do_not_fit(n, c, k):
    with pytest.raises(ValueError, match=f"n={n} c={c} k={k}"):
        pass_at_k(n, c, k)


@settings(deadline=None)
@given(fractions)
@example([sys.float_info.min])
def test_interval_contains_the_mean_and_lies_within_the_values(values):
    found = bootstrap_mean(values, n_resamples=50)
    assert found.value == pytest.approx(sum(values) / len(values))
    slack = 1e-12 * max(map(abs, values)) + 1e-300  # below, floats have fewer digits
    assert min(values) - slack <= found.low <= found.value <= found.high <= max(values) + slack


@settings(deadline=None)
@given(fractions, st.integers(0, 2**32))
def test_bootstrap_is_deterministic_for_a_seed(values, seed):
    again = [bootstrap_mean(values, n_resamples=30, seed=seed) for _ in range(2)]
    assert again[0] == again[1]


def test_wider_confidence_gives_a_wider_interval():
    values = np.arange(20.0)
    narrow, wide = (bootstrap_mean(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_of_two_values_spans_both():
    found = bootstrap_mean([0.0, 1.0])
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_interval_width_agrees_with_the_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap_mean(values)
    normal = 2 * 1.96 * values.std() / 20
    assert found.high - found.low == pytest.approx(normal, rel=0.05)


def test_differences_that_are_always_zero_are_no_evidence():
    assert sign_p_value(np.zeros(30)) == 1
    assert sign_p_value(np.full(999, 0.01)) == 2 / 1000


def test_chunks_change_no_resample(monkeypatch):
    values = np.random.default_rng(3).uniform(size=64)
    whole = bootstrap_mean(values, n_resamples=500)
    monkeypatch.setattr(metrics, "DRAWS_AT_A_TIME", 64 * 128)
    assert bootstrap_mean(values, n_resamples=500) == whole


@pytest.mark.parametrize("values", [[], [[1.0]], [float("nan")], [1.0, float("inf")]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="values"):
        bootstrap_mean(values)


@pytest.mark.parametrize("option", [{"n_resamples": 0}, {"confidence": 1.0}, {"confidence": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        bootstrap_mean([1.0], **option)
