"""Means, deviations and paired intervals, against NumPy and SciPy."""

import itertools
import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, sem, t, ttest_1samp, ttest_rel, wilcoxon
from statsmodels.stats.multitest import multipletests

from ema_lab.statistics import (
    bootstrap_interval,
    comparable_means,
    effect_size,
    holm,
    pair_count,
    paired_difference,
    paired_test,
    rank_rows,
    summarise,
    wilcoxon_pairs_needed,
    wilcoxon_test,
    win_tie_loss,
)

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


@given(st.floats(0, 100), st.integers(2, 10))
def test_equal_values_have_no_interval(value, count):
    """Equal accuracies of a small test set do not mean that every further seed will show the same."""
    summary = summarise([value + 1e-14 * place for place in range(count)])
    assert not summary.has_spread
    assert math.isnan(summary.half_width)
    estimate = paired_difference([value] * count)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=10))
def test_the_interval_holds_the_mean_and_turns_with_the_sign(differences):
    estimate = paired_difference(differences)
    turned = paired_difference([-value for value in differences])
    assume(summarise(differences).has_spread)
    assert estimate.low <= estimate.mean <= estimate.high
    assert (turned.low, turned.high) == pytest.approx((-estimate.high, -estimate.low), abs=1e-9)


@given(st.lists(SCORES, min_size=2, max_size=30))
def test_standard_error_and_interval_are_those_of_scipy(values):
    summary = summarise(values)
    assert summary.standard_error == pytest.approx(sem(values), rel=1e-9, abs=1e-12)
    if summary.std > 1e-6:
        expected = t.interval(0.95, len(values) - 1, np.mean(values), sem(values))
        assert summary.interval == pytest.approx(expected, rel=1e-9)


def test_the_bootstrap_is_refused_below_twenty_seeds():
    with pytest.raises(ValueError, match="at least 20 seeds, got 19"):
        bootstrap_interval(list(range(19)))


def test_the_bootstrap_agrees_with_scipy_and_with_itself():
    values = np.random.default_rng(0).normal(90, 1, 25).tolist()
    wide = 2 * norm.cdf(math.sqrt(25 / 24) * t.ppf(0.975, 24)) - 1
    options = {"method": "percentile", "confidence_level": wide, "rng": np.random.default_rng(1)}
    expected = bootstrap((values,), np.mean, **options)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.03)


class TestPairedTests:
    @pytest.mark.parametrize("count", [2, 3, 6, 20])
    def test_t_is_that_of_scipy(self, count):
        differences = np.random.default_rng(count).normal(0.3, 1, count)
        expected = ttest_1samp(differences, 0)
        found = paired_test(differences.tolist())
        assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)

    @pytest.mark.parametrize("differences", [[], [1.0], [2.0, 2.0, 2.0]])
    def test_what_cannot_be_tested_has_no_p_value_and_says_why(self, differences):
        found = paired_test(differences)
        assert math.isnan(found.p)
        assert found.why

    def test_wilcoxon_says_below_six_pairs_that_it_cannot_reach_five_percent(self):
        found = wilcoxon_test([1.0, 2.0, 3.0, 4.0, 5.0])
        assert found.p is None
        assert found.why == "5 differing pairs cannot reach p = 0.05"
        assert wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0]).pvalue == 0.0625  # scipy's, the smallest there is

    @pytest.mark.parametrize(("comparisons", "pairs"), [(1, 6), (2, 7), (6, 8), (7, 9)])
    def test_the_pairs_that_wilcoxon_needs_in_a_table(self, comparisons, pairs):
        assert wilcoxon_pairs_needed(comparisons) == pairs
        smallest = [wilcoxon(range(1, count + 1)).pvalue for count in (pairs - 1, pairs)]
        assert comparisons * smallest[1] <= 0.05 < comparisons * smallest[0]

    def test_wilcoxon_is_that_of_scipy_from_six_pairs_on(self):
        differences = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert wilcoxon_test(differences).p == wilcoxon(differences).pvalue == 0.03125

    def test_pairs_without_a_difference_do_not_count_for_wilcoxon(self):
        assert wilcoxon_test([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).p is None

    def test_wilcoxon_finds_the_ties_of_percentages(self):
        """Percentages of whole images differ in their last bits where the images do not."""
        ours, theirs = [346, 347, 357, 354, 345, 348, 345, 350], [343, 345, 340, 346, 346, 351, 341, 347]
        images = [a - b for a, b in zip(ours, theirs, strict=True)]
        percent = [100 * a / 360 - 100 * b / 360 for a, b in zip(ours, theirs, strict=True)]
        assert wilcoxon_test(percent).p == wilcoxon(images).pvalue == pytest.approx(0.078125)
        assert wilcoxon(percent).pvalue < 0.05  # without the ties

    def test_the_effect_size_by_hand(self):
        # mean 2, sample standard deviation 1, J = 1 - 3 / (4 * 2 - 1)
        assert effect_size([1.0, 2.0, 3.0]) == pytest.approx(2 * 4 / 7, rel=1e-12)
        assert math.isnan(effect_size([1.0, 2.0]))
        assert math.isnan(effect_size([2.0, 2.0, 2.0]))


class TestHolm:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_is_that_of_statsmodels(self, p_values):
        with patch("gc.collect"):  # which it calls each time: half a minute over all examples
            expected = multipletests(p_values, method="holm")[1]
        assert holm(p_values) == pytest.approx(expected, abs=1e-12)

    def test_a_comparison_that_could_not_be_tested_counts(self):
        first, second, third = holm([0.01, math.nan, 0.04])
        assert (first, third) == pytest.approx((0.03, 0.08))
        assert math.isnan(second)


def by_seed(*values):
    return dict(enumerate(values))


class TestRank:
    def test_best_and_second_are_marked_where_tests_support_both(self):
        rows = [by_seed(90, 91, 92, 93), by_seed(95.1, 96, 97, 98.1), by_seed(93, 94.1, 95, 96)]
        assert rank_rows(rows, +1) == [None, "best", "second"]
        assert rank_rows(rows, -1) == ["best", None, "second"]

    def test_rows_without_a_significant_difference_have_no_rank(self):
        rows = [by_seed(90, 91, 92, 93), by_seed(95, 96.1, 97, 98), by_seed(95.1, 95.9, 97.2, 97.9)]
        assert rank_rows(rows, +1) == [None, None, None]

    def test_what_no_test_has_seen_is_untested_and_blocks_no_mark(self):
        assert rank_rows([by_seed(90), by_seed(99)], +1) == ["untested", "untested"]
        assert rank_rows([by_seed(90, 91), by_seed(92, 93)], +1) == ["untested", "untested"]
        rows = [by_seed(90, 91, 92, 93), by_seed(95.1, 96, 97, 98.1), by_seed(99)]
        assert rank_rows(rows, +1) == [None, "best", "untested"]
        above, below = {0: 90.0, 1: 90.1, 2: 89.9}, {0: 50.1, 1: 50.0, 2: 50.2}
        assert rank_rows([above, below, {9: 10.0}], +1) == ["best", None, "untested"]

    def test_rows_whose_seeds_do_not_differ_at_all_are_tested(self):
        rows = [by_seed(100, 100, 100), by_seed(100, 100, 100), by_seed(99.7, 100, 99.4)]
        assert rank_rows(rows, +1) == [None, None, None]

    @given(
        st.lists(
            st.dictionaries(
                st.integers(0, 4), st.integers(880, 890).map(lambda hits: hits / 9.1), max_size=5
            ),
            max_size=5,
        ),
        st.sampled_from([1, -1]),
    )
    def test_marks_are_those_of_one_test_at_a_time(self, rows, sign):
        """Held against the definition: a paired test of each pair, Holm over all of them."""
        pairs = list(itertools.combinations(range(len(rows)), 2))
        differences = [
            [sign * (rows[a][key] - rows[b][key]) for key in sorted(rows[a].keys() & rows[b].keys())]
            for a, b in pairs
        ]
        tests = [paired_test(one) for one in differences]
        equal = [len(one) > 1 and summarise(one).is_zero for one in differences]
        p_values = holm([1.0 if same else test.p for test, same in zip(tests, equal, strict=True)])
        tested = {
            place for pair, p in zip(pairs, p_values, strict=True) if not math.isnan(p) for place in pair
        }
        beaten = {place: set() for place in range(len(rows))}
        for (a, b), test, p in zip(pairs, tests, p_values, strict=True):
            if p < 0.05:
                beaten[a if test.t > 0 else b].add(b if test.t > 0 else a)
        expected = ["untested" if row and place not in tested else None for place, row in enumerate(rows)]
        best = [place for place in tested if beaten[place] == tested - {place}]
        for place in best:
            expected[place] = "best"
            rest = tested - {place}
            for other in rest if len(rest) > 1 else ():
                if beaten[other] == rest - {other}:
                    expected[other] = "second"
        assert rank_rows(rows, sign) == expected

    def test_a_row_is_best_whatever_the_order_of_the_means(self):
        """A bad seed that only one row has lowers its mean, and no difference."""
        rows = [{0: 95.0, 1: 95.2, 2: 95.1, 3: 40.0}, {0: 90.0, 1: 90.1, 2: 90.2}]
        assert rank_rows(rows, +1) == ["best", None]
        third = {0: 85.0, 1: 85.2, 2: 85.3, 4: 99.9}
        assert rank_rows([*rows, third], +1) == ["best", "second", None]

    def test_a_pair_of_tested_rows_without_a_test_leaves_both_without_a_mark(self):
        first = {seed: 90 + 0.1 * (seed % 3) for seed in range(8)}
        early = {seed: first[seed] - 10 - 0.01 * seed for seed in range(4)}
        late = {seed: first[seed] - 20 - 0.01 * seed for seed in range(4, 8)}
        assert rank_rows([first, early, late], +1) == ["best", None, None]
        assert rank_rows([first, early, late], -1) == [None, None, None]

    def test_groups_are_ranked_apart_and_corrected_together(self):
        group = [by_seed(1.2, 0.7, 1.3, 0.4, 0.9), by_seed(0.0, 0.0, 0.0, 0.0, 0.0)]
        p = paired_test(list(group[0].values())).p
        enough = int(0.05 / p)  # groups until Holm's first step no longer finds it
        assert rank_rows(group, +1) == ["best", None]
        assert 1 < enough < 100
        for count, marks in ((enough, ["best", None]), (enough + 1, [None, None])):
            names = [str(place) for place in range(count) for _ in range(2)]
            assert rank_rows(group * count, +1, names) == marks * count

    def test_a_row_without_runs_has_no_rank(self):
        assert rank_rows([by_seed(90, 91.2, 92), {}, by_seed(95, 96, 97)], +1) == [None, None, "best"]
        assert rank_rows([by_seed(90, 91), {}], +1) == ["untested", None]

    def test_only_common_seeds_are_compared(self):
        rows = [{0: 90.0, 1: 91.0, 2: 92.0}, {3: 95.0, 4: 96.0, 5: 97.0}]
        assert rank_rows(rows, +1) == ["untested", "untested"]

    def test_all_pairs_within_groups_are_counted(self):
        assert pair_count(["a", "a", "b", "a", "b", "c"]) == 3 + 1


def test_means_are_compared_over_the_seeds_that_all_rows_have():
    rows = {"a": {0: 1.0, 1: 2.0, 2: 9.0}, "b": {0: 3.0, 1: 4.0}, "none": {}}
    assert comparable_means(rows) == {"a": 1.5, "b": 3.5}
    assert comparable_means({"a": {0: 1.0, 1: 2.0}, "b": {2: 5.0}}) == {"a": 1.5, "b": 5.0}
    assert comparable_means({"none": {}}) == {}


def test_wins_ties_and_losses_need_a_test():
    found = win_tie_loss([(1.0, 0.01), (1.0, 0.2), (-1.0, 0.04), (3.0, math.nan)], +1)
    assert str(found) == "1/1/1"
    assert str(win_tie_loss([(1.0, 0.01), (2.0, 0.01), (-1.0, 0.04)], -1)) == "1/0/2"


def test_the_second_is_better_than_the_last_row_too():
    """A beats B and C, and B ties with C: three rows have no second."""
    best = {0: 90.0, 1: 90.4, 2: 89.7, 3: 90.1, 4: 90.3}
    middle = {seed: value - 10 - 0.01 * seed for seed, value in best.items()}
    last = {seed: value - 10.05 - (-1) ** seed * 0.4 for seed, value in best.items()}
    assert rank_rows([best, middle, last], +1) == ["best", None, None]
    assert rank_rows([last, best, middle], +1) == [None, "best", None]
    far = {seed: value - 20 + 0.01 * seed**2 for seed, value in best.items()}
    assert rank_rows([best, middle, far], +1) == ["best", "second", None]
    assert rank_rows([best, middle, far, last], +1) == ["best", None, None, None]
    more = {seed: 90 + 0.1 * (seed % 3) for seed in range(20)}
    second = {seed: more[seed] - 10 - 0.01 * seed for seed in range(10)}
    third = {seed: more[seed] - 20 - 0.01 * seed**2 for seed in range(10)}
    apart = {seed: more[seed] - 40 - 0.01 * seed for seed in range(10, 20)}  # no seed in common with second
    assert rank_rows([more, second, third], +1) == ["best", "second", None]
    assert rank_rows([more, second, third, apart], +1) == ["best", None, None, None]
