"""Best values of searches: the closed form against brute force, and how optimistic a best value is."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.statistics.search import expected_best

VALUES = st.lists(st.integers(-50, 50).map(lambda value: value / 4), min_size=1, max_size=4)


@given(VALUES, st.integers(1, 4), st.sampled_from([1, -1]))
def test_the_closed_form_is_the_mean_over_all_draws(values, budget, sign):
    best = [sign * max(sign * value for value in draw) for draw in itertools.product(values, repeat=budget)]
    [found] = expected_best(values, sign, [budget])
    assert found.mean == pytest.approx(statistics.fmean(best))
    assert found.std == pytest.approx(statistics.pstdev(best), abs=1e-6)


@given(VALUES, st.sampled_from([1, -1]))
def test_a_larger_budget_is_never_worse_and_never_beats_the_best_value(values, sign):
    means = [each.mean for each in expected_best(values, sign, [1, 2, 5, 50])]
    assert means[0] == pytest.approx(statistics.fmean(values))
    gains = [sign * (b - a) for a, b in itertools.pairwise(means)]
    assert min(gains) >= -1e-9
    assert sign * means[-1] <= max(sign * value for value in values) + 1e-9


def test_close_values_keep_their_digits():
    [found] = expected_best([1e8, 1e8 + 1e-3], +1, [1])
    assert found.std == pytest.approx(0.5e-3, rel=1e-3)


@pytest.mark.parametrize(("values", "budgets"), [([], [1]), ([1.0], [0])])
def test_nothing_to_draw_from_is_refused(values, budgets):
    with pytest.raises(ValueError, match="needs values and budgets from 1"):
        expected_best(values, +1, budgets)


class TestTruth:
    def test_the_expectation_of_a_known_distribution(self):
        """The best of B uniform values is B / (B + 1) on average; 40 trials estimate it for 1 to 10."""
        random = np.random.default_rng(0)
        budgets = [1, 2, 5, 10]
        found = [[e.mean for e in expected_best(random.random(40).tolist(), +1, budgets)] for _ in range(300)]
        assert np.mean(found, axis=0) == pytest.approx([b / (b + 1) for b in budgets], abs=0.015)

    def test_close_to_the_number_of_trials_it_is_too_low(self):
        random = np.random.default_rng(1)
        found = [expected_best(random.random(20).tolist(), +1, [20])[0].mean for _ in range(300)]
        assert np.mean(found) < 20 / 21 - 0.01

    @pytest.mark.parametrize(("trials", "bias"), [(4, 1.03), (16, 1.77)])
    def test_the_best_of_equal_trials_is_too_high_by_more_than_a_deviation(self, trials, bias):
        """All trials have the true value 90 and the deviation 1: their best is luck alone."""
        values = np.random.default_rng(2).normal(90, 1, (2000, trials))
        assert values.max(axis=1).mean() - 90 == pytest.approx(bias, abs=0.08)
