"""Equivalence, and means of new seeds beside earlier ones, against statsmodels and known truths."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind
from statsmodels.stats.weightstats import ttost_paired

from ema_lab.statistics import paired_equivalence, paired_test, replicate


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_two_one_sided_tests_are_those_of_statsmodels(count, margin):
    random = np.random.default_rng(count)
    ours, theirs = random.normal(90, 1, (2, count))
    expected, *_ = ttost_paired(ours, theirs, -margin, margin)
    assert paired_equivalence(list(ours - theirs), margin).p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("differences", [[], [1.0], [0.0, 0.0, 0.0]])
def test_what_cannot_be_tested_is_not_equivalent(differences):
    found = paired_equivalence(differences, 1.0)
    assert math.isnan(found.p)
    assert found.why


def equivalent_share(repetitions, seeds, truth, margin):
    samples = np.random.default_rng(seeds).normal(truth, 1, (repetitions, seeds))
    return np.mean([paired_equivalence(list(sample), margin).p < 0.05 for sample in samples])


def test_rows_at_the_margin_are_rarely_called_equivalent():
    assert equivalent_share(1000, 5, 1.5, 1.5) <= 0.07
    assert equivalent_share(200, 20, 0.0, 1.5) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
def test_rows_at_the_margin_are_called_equivalent_in_at_most_five_percent(seeds):
    assert equivalent_share(20_000, seeds, 1.5, 1.5) <= 0.055


def test_no_difference_found_is_not_equivalence():
    """Two seeds of rows that differ by a whole point: no test finds it, and none calls them equivalent."""
    samples = np.random.default_rng(0).normal(1, 1, (500, 2))
    no_difference = [sample for sample in samples.tolist() if paired_test(sample).p >= 0.05]
    assert len(no_difference) > 400
    assert np.mean([paired_equivalence(sample, 1.0).p < 0.05 for sample in no_difference]) <= 0.07


def test_a_mean_of_one_earlier_seed_is_tested_as_by_the_t_test_of_two_groups():
    ours = [80.1, 80.9, 80.4, 80.2]
    found = replicate(ours, 1)
    # One value has no variance of its own, so the pooled variance is that of the other group.
    assert found.p_of_difference(81.5) == pytest.approx(ttest_ind(ours, [81.5]).pvalue)
    low, high = found.interval
    assert found.p_of_difference(low) == pytest.approx(0.05)
    assert found.p_of_difference(high + 0.005, rounding=0.005) == pytest.approx(0.05)
    assert found.p_of_difference(80.401, rounding=0.005) == 1.0


def test_the_bound_is_the_smallest_margin_that_shows_agreement():
    found = replicate([80.1, 80.9, 80.4, 80.2], 3)
    for level in (0.05, 0.01):
        bound = found.bound(80.0, 0.005, level)
        assert found.p_of_agreement(80.0, bound, 0.005) == pytest.approx(level)


def test_what_has_no_spread_is_not_tested():
    for values in ([80.0], [80.0, 80.0]):
        found = replicate(values, 1)
        assert not found.is_testable
        numbers = [*found.interval, found.p_of_difference(81), found.p_of_agreement(81, 1), found.bound(81)]
        assert all(map(math.isnan, numbers))
    with pytest.raises(ValueError, match="at least one seed, got 0"):
        replicate([80.0, 81.0], 0)


def contradicted_share(repetitions, seeds, earlier_seeds):
    random = np.random.default_rng(seeds)
    ours = random.normal(80, 0.5, (repetitions, seeds))
    earlier = random.normal(80, 0.5, (repetitions, earlier_seeds)).mean(axis=1)
    p_values = [
        replicate(each, earlier_seeds).p_of_difference(mean)
        for each, mean in zip(ours.tolist(), earlier.tolist(), strict=True)
    ]
    return np.mean(np.array(p_values) < 0.05)


@pytest.mark.parametrize("earlier_seeds", [1, 5])
def test_a_true_earlier_mean_is_rarely_contradicted(earlier_seeds):
    assert contradicted_share(1000, 3, earlier_seeds) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 20])
@pytest.mark.parametrize("earlier_seeds", [1, 3])
def test_a_true_earlier_mean_is_contradicted_in_five_percent(seeds, earlier_seeds):
    assert contradicted_share(20_000, seeds, earlier_seeds) == pytest.approx(0.05, abs=0.006)
