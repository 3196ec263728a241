"""Power analysis, against simulated experiments and statsmodels."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, ttest_1samp
from statsmodels.stats.power import TTestPower

from ema_lab.statistics.power import (
    detectable_difference,
    pooled_std,
    power_of,
    seeds_needed,
    std_limits,
    upper_std,
)


def test_the_detectable_difference_has_the_power_that_it_says():
    for seeds in [2, 3, 5, 20, 500]:
        for significance in [0.05, 0.01, 0.001]:
            found = detectable_difference(seeds, 2.5, significance=significance)
            assert power_of(found / 2.5, seeds, significance) == pytest.approx(0.8, abs=1e-6)


def test_power_is_that_of_statsmodels_where_that_can_tell():
    for effect in [0.2, 0.5, 1.0, 3.0]:
        for seeds in [3, 5, 20, 100]:
            expected = TTestPower().power(effect, seeds, 0.05)
            if not math.isnan(expected):
                assert power_of(effect, seeds) == pytest.approx(expected, abs=2e-5)
            assert TTestPower().power(0.5, 20, 0.05) == pytest.approx(power_of(0.5, 20), abs=2e-5)


def test_three_seeds_see_what_they_say_in_simulated_experiments():
    random = np.random.default_rng(0)
    found = detectable_difference(3, 0.4)
    results = ttest_1samp(random.normal(found, 0.4, (20_000, 3)), 0, axis=1)
    assert np.mean(results.pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


def test_statsmodels_own_solver_would_be_wrong_here():
    """A record of why the equation is solved in this project."""
    theirs = TTestPower().solve_power(nobs=2, alpha=0.01, power=0.8)
    assert power_of(theirs, 2, 0.01) == pytest.approx(0.18, abs=0.01)
    random = np.random.default_rng(0)
    ours = detectable_difference(2, 1.0, significance=0.01)
    results = ttest_1samp(random.normal(ours, 1.0, (20_000, 2)), 0, axis=1)
    assert np.mean(results.pvalue < 0.01) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("difference", [0.1, 0.4, 1.0, 3.0])
def test_the_seeds_needed_are_the_fewest_that_suffice(difference):
    count = seeds_needed(difference, 0.5)
    assert detectable_difference(count, 0.5) <= difference
    assert detectable_difference(count - 1, 0.5) > difference


def test_a_single_seed_sees_nothing():
    assert detectable_difference(1, 0.1) == math.inf


def test_a_difference_that_no_number_of_seeds_shows():
    assert seeds_needed(1e-4, 1.0) is None
    with pytest.raises(ValueError, match="above zero"):
        seeds_needed(0.0, 1.0)


def test_the_spread_is_pooled_over_rows():
    assert pooled_std([[1.0, 3.0]]) == (pytest.approx(math.sqrt(2)), 1)
    assert pooled_std([[1.0], []]) is None


def test_rows_share_a_baseline_and_so_degrees_of_freedom():
    """Half of a difference's variance is the baseline's, so that two rows' variances correlate by 1 / 4."""
    spread = pooled_std([[1.0, 3.0], [5.0], [2.0, 2.0, 2.0]])
    assert spread == pytest.approx((math.sqrt(2 / 3), 3 / 1.25))


@pytest.mark.parametrize("degrees", [1, 2, 3.2, 18])
def test_the_upper_limit_of_a_deviation_is_that_of_chi_squared(degrees):
    assert upper_std(0.4, degrees) == pytest.approx(0.4 * math.sqrt(degrees / chi2.ppf(0.2, degrees)))


def test_the_limits_of_a_deviation_hold_its_truth_in_four_of_five_cases():
    stds = np.random.default_rng(1).normal(0, 1, (4000, 3)).std(axis=1, ddof=1)
    low, high = std_limits(1.0, 2)
    assert np.mean((low * stds <= 1) & (high * stds >= 1)) == pytest.approx(0.8, abs=0.02)
    assert (low, high) == pytest.approx(tuple(math.sqrt(2 / chi2.ppf(level, 2)) for level in (0.9, 0.1)))


def test_four_of_five_plans_have_the_power_that_they_state():
    """Plans of five seeds from a pilot of three seeds. Without the limit, 80 % is less on average."""
    pilots = np.random.default_rng(0).normal(0, 1, (4000, 3)).std(axis=1, ddof=1)
    effects = np.linspace(0.05, 20, 400)
    powers = np.array([power_of(effect, 5) for effect in effects])
    at_plan = {
        name: np.interp(detectable_difference(5, 1.0) * pilots * factor, effects, powers)
        for name, factor in (("estimate", 1.0), ("limit", upper_std(1.0, 2)))
    }
    assert np.mean(at_plan["limit"] >= 0.8) == pytest.approx(0.8, abs=0.02)
    assert np.mean(at_plan["estimate"] >= 0.8) < 0.4
    assert np.mean(at_plan["estimate"]) < 0.7 < 0.85 < np.mean(at_plan["limit"])


@pytest.mark.parametrize("std", [0.4, 2.0])
def test_every_number_of_seeds_is_the_fewest_for_what_it_just_shows(std):
    counts = [*range(2, 30), 99, 100, 101, 1023, 1024, 1025, 9_999, 10_000]
    shown = [detectable_difference(count, std) * (1 + 1e-9) for count in counts]
    assert [seeds_needed(difference, std) for difference in shown] == counts
