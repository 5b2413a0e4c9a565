"""Tests, effects, power and correlations, against SciPy and statsmodels."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_effectsize

from astraios import metrics
from astraios.metrics import bootstrap_mean, bootstrap_means, pass_at_k, seeded_means
from astraios.metrics.association import EXACT_POINTS, KINDS, kendall, pearson, spearman
from astraios.metrics.paired import (
    adjusted,
    cohens_h,
    detectable_difference,
    odds_ratio,
    paired_effect,
    permutation_p_values,
)

shares = st.floats(0, 1)
p_values = st.lists(shares, min_size=1, max_size=30)
columns = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=25)


# --- pass@k -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=10))
def test_pass_at_k_of_many_problems_equals_that_of_each(counts):
    n = np.array([a for a, _ in counts])
    c = np.array([min(a, b) for a, b in counts])
    k = np.maximum(1, n // 2)
    expected = [pass_at_k(int(a), int(b), int(d)) for a, b, d in zip(n, c, k, strict=True)]
    assert pass_at_k(n, c, k).tolist() == expected


def test_pass_at_k_of_many_refuses_too_few_samples():
    with pytest.raises(ValueError, match="n=3 c=1 k=5"):
        pass_at_k(np.array([9, 3]), np.array([1, 1]), 5)


# --- bootstrap --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=8)
@given(st.lists(shares, min_size=5, max_size=40), st.integers(0, 99))
def test_interval_agrees_with_scipys_percentile_bootstrap(values, seed):
    ours = bootstrap_mean(values, n_resamples=4_000)
    found = stats.bootstrap(
        (np.array(values),), np.mean, n_resamples=4_000, method="percentile", rng=seed
    ).confidence_interval
    slack = 0.25 * (found.high - found.low) + 1e-9
    assert ours.low == pytest.approx(found.low, abs=slack)
    assert ours.high == pytest.approx(found.high, abs=slack)


def test_columns_are_resampled_together():
    values = np.random.default_rng(0).uniform(size=(30, 3))
    together = bootstrap_means(values, n_resamples=200)
    for place in range(3):
        alone = bootstrap_means(values[:, [place]], n_resamples=200)
        assert together[:, place] == pytest.approx(alone[:, 0], abs=1e-12)


def test_many_problems_have_the_spread_of_their_mean(monkeypatch):
    """Equal problems are drawn together; the distribution is that of drawing each."""
    values = np.random.default_rng(1).integers(0, 3, size=(400, 1)) / 2
    one_by_one = bootstrap_means(values)
    monkeypatch.setattr(metrics, "MANY_PROBLEMS", 100)
    at_once = bootstrap_means(values)
    assert at_once.std() == pytest.approx(one_by_one.std(), rel=0.04)
    assert at_once.mean() == pytest.approx(values.mean(), abs=0.002)


def test_one_seed_is_resampled_over_problems_alone():
    values = np.random.default_rng(2).uniform(size=(1, 25))
    found = seeded_means([("lora", values)], n_resamples=300)
    assert found[:, 0].tolist() == bootstrap_means(values.T, n_resamples=300)[:, 0].tolist()


def test_seeds_vary_the_mean_by_their_standard_error():
    """Problems that are all equal leave the seeds: variance s^2 / k."""
    seeds = np.array([0.2, 0.5, 0.6])
    arm = np.repeat(seeds[:, None], 10, axis=1)
    found = seeded_means([("lora", arm)])
    assert found.std() == pytest.approx(seeds.std(ddof=1) / math.sqrt(3), rel=0.03)
    assert found.mean() == pytest.approx(seeds.mean(), abs=0.005)


def test_spread_of_seeds_and_of_problems_adds_up():
    random = np.random.default_rng(3)
    seeds, problems = random.normal(size=(5, 1)), random.normal(size=(1, 60))
    found = seeded_means([("lora", seeds + problems)])
    expected = seeds.var(ddof=1) / 5 + problems.var(ddof=0) / 60
    assert found.var() == pytest.approx(expected, rel=0.06)


def test_other_arms_change_nothing():
    random = np.random.default_rng(4)
    arms = [(name, random.uniform(size=(3, 20))) for name in ("fft", "lora", "ia3")]
    alone = seeded_means(arms[1:2], n_resamples=200)[:, 0]
    assert seeded_means(arms, n_resamples=200)[:, 1] == pytest.approx(alone, abs=1e-12)


def test_problem_that_a_seed_did_not_judge_counts_by_the_others():
    arm = np.array([[1.0, 0.0, np.nan], [1.0, 0.0, 1.0]])
    found = seeded_means([("lora", arm)])
    assert found.mean() == pytest.approx(2 / 3, abs=0.01)
    assert np.isfinite(found).all()


def test_many_seeds_are_drawn_from_a_few_hundred_draws():
    arm = np.random.default_rng(5).uniform(size=(12, 15))
    found = seeded_means([("lora", arm)], n_resamples=2_000)[:, 0]
    assert found.mean() == pytest.approx(arm.mean(), abs=0.02)


# --- tests and effects ------------------------------------------------------------------------


@settings(deadline=None, max_examples=8)  # each call of statsmodels collects garbage
@given(p_values, st.sampled_from(["holm", "fdr_bh"]))
def test_adjusted_p_values_equal_those_of_statsmodels(raw, method):
    expected = multipletests(raw, method=method)[1]
    assert adjusted(raw, method) == pytest.approx(expected.tolist(), abs=1e-12)


def test_missing_p_values_are_left_out():
    found = adjusted([0.01, math.nan, 0.03], "fdr_bh")
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert adjusted([]) == []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_few_problems_have_the_exact_p_value_of_scipy(differences):
    values = np.array(differences, dtype=float)
    expected = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, axis=0
    )
    # SciPy doubles the smaller tail; sums of signs are symmetric, so that is the same.
    found = permutation_p_values(values[:, None])[0]
    assert found == pytest.approx(float(expected.pvalue))


def test_many_problems_have_nearly_the_p_value_of_a_t_test():
    values = np.random.default_rng(6).normal(0.2, 1, size=(100, 2))
    found = permutation_p_values(values)
    for place in range(2):
        expected = stats.ttest_1samp(values[:, place], 0).pvalue
        assert found[place] == pytest.approx(float(expected), abs=0.02)


def test_equal_arms_are_never_told_apart():
    assert permutation_p_values(np.zeros((40, 1))).tolist() == [1.0]
    assert np.isnan(permutation_p_values(np.zeros((0, 1)))).all()


@given(shares, shares)
def test_effect_size_equals_that_of_statsmodels(a, b):
    assert cohens_h(a, b) == pytest.approx(float(proportion_effectsize(a, b)), abs=1e-9)


def test_effects_of_differences_that_do_not_vary():
    assert math.isnan(paired_effect(np.array([0.5])))
    assert math.isnan(paired_effect(np.array([0.5, 0.5])))
    assert paired_effect(np.array([0.0, 1.0])) == pytest.approx(0.5 / math.sqrt(0.5))
    assert (odds_ratio(0.5, 0.25), odds_ratio(0.5, 0.0)) == (pytest.approx(3), math.inf)
    assert math.isnan(odds_ratio(0.0, 0.0))


@pytest.mark.parametrize("level", [0.05, 0.05 / 21])
@pytest.mark.parametrize("n", [20, 164, 1640])
def test_detectable_difference_has_the_power_it_promises(n, level):
    effect = detectable_difference(1.0, n, level=level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SciPy's noncentral t
        power = TTestPower().power(effect, n, level, alternative="two-sided")
    assert power == pytest.approx(0.8, abs=0.02)


def test_detectable_difference_of_too_little_is_not_known():
    assert math.isnan(detectable_difference(0.5, 1))
    assert math.isnan(detectable_difference(math.nan, 100))
    assert detectable_difference(0.2, 50) == pytest.approx(2 * detectable_difference(0.1, 50))


# --- correlations -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(columns)
def test_coefficients_and_p_values_equal_those_of_scipy(points):
    x, y = np.array(points, dtype=float).T
    theirs = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": stats.kendalltau,
    }
    for name, correlate in KINDS.items():
        found = correlate(x, y)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert found is None
            continue
        expected = theirs[name](x, y)
        assert found.value == pytest.approx(float(expected.statistic), abs=1e-9)
        if name != "spearman" or len(x) > EXACT_POINTS:
            assert found.p_value == pytest.approx(float(expected.pvalue), abs=1e-9)
        if not math.isnan(found.low):
            assert -1 <= found.low <= found.value <= found.high <= 1


def test_a_rank_correlation_of_few_points_is_compared_with_all_orders():
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]).p_value == pytest.approx(2 / 24)
    x, y = np.array([3.0, 1, 2, 5, 4, 4]), np.array([2.0, 1, 1, 3, 5, 4])
    orders = [stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    found = spearman(x, y)
    share = np.mean(np.abs(orders) >= abs(found.value) - 1e-9)
    assert found.p_value == pytest.approx(share)


def test_points_with_a_missing_part_are_left_out():
    found = pearson([1, 2, 3, 4, np.nan, 6], [2, 1, 4, 3, 5, np.inf])
    assert found is not None
    assert found.n == 4


def test_kendalls_interval_needs_five_points():
    found = kendall([1, 2, 3, 4], [1, 3, 2, 4])
    assert found is not None
    assert math.isnan(found.low)
    assert kendall([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]).low < 0.8


def test_fewer_than_four_points_have_no_correlation():
    assert pearson([1, 2, 3], [1, 2, 4]) is None
    assert spearman([], []) is None


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        pearson([1, 2], [1])


@pytest.mark.slow
def test_intervals_of_rank_correlations_cover_the_truth():
    """Normal points of correlation 0.5: 95 % of the intervals should hold the true coefficient."""
    random = np.random.default_rng(7)
    true = {
        "pearson": 0.5,
        "spearman": 6 / math.pi * math.asin(0.25),
        "kendall": 2 / math.pi * math.asin(0.5),
    }
    held = dict.fromkeys(true, 0)
    n = 1_000
    for _ in range(n):
        x = random.normal(size=25)
        y = 0.5 * x + math.sqrt(0.75) * random.normal(size=25)
        for name, correlate in KINDS.items():
            found = correlate(x, y)
            held[name] += found.low <= true[name] <= found.high
    assert all(0.92 <= count / n <= 0.98 for count in held.values()), held
