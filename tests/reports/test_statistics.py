"""Means, deviations and paired intervals, against NumPy and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from ema_lab.reports.statistics import paired_difference, summarise

SCORES = st.floats(0, 100, allow_nan=False)


@given(st.lists(SCORES, min_size=2, max_size=30))
def test_a_summary_is_the_mean_and_the_sample_deviation(values):
    summary = summarise(values)
    assert summary.count == len(values)
    assert summary.mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-12)
    assert summary.std == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-9)


@given(SCORES)
def test_a_single_seed_has_no_deviation(value):
    summary = summarise([value])
    assert (summary.mean, summary.count) == (value, 1)
    assert math.isnan(summary.std)


def test_no_seed_has_no_summary():
    with pytest.raises(ValueError, match="at least one value"):
        summarise([])


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
def test_the_interval_is_that_of_the_paired_t_test(count):
    random = np.random.default_rng(count)
    baseline = random.normal(90, 1, count)
    variant = baseline + random.normal(0.3, 0.5, count)
    estimate = paired_difference((variant - baseline).tolist())
    low, high = ttest_rel(variant, baseline).confidence_interval(0.95)
    assert estimate.count == count
    assert estimate.mean == pytest.approx(np.mean(variant - baseline), rel=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-9)


def test_the_interval_of_three_seeds_by_hand():
    estimate = paired_difference([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, s / sqrt(n) = 0.577350
    assert (estimate.low, estimate.mean, estimate.high) == pytest.approx((-0.484138, 2.0, 4.484138), abs=1e-6)


def test_a_single_pair_has_no_interval():
    estimate = paired_difference([0.5])
    assert (estimate.mean, estimate.count) == (0.5, 1)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=10))
def test_the_interval_holds_the_mean_and_turns_with_the_sign(differences):
    estimate = paired_difference(differences)
    turned = paired_difference([-value for value in differences])
    assert estimate.low <= estimate.mean <= estimate.high
    assert (turned.low, turned.high) == pytest.approx((-estimate.high, -estimate.low), abs=1e-9)
