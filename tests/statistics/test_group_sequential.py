"""Looks after every seed up to a number fixed in advance: boundaries, p-values, intervals, futility."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ema_lab.specs.report_form import DecidedSeeds
from ema_lab.statistics import paired_test, t_quantile
from ema_lab.statistics.group_sequential import (
    FUTILE,
    MOST_PLANNED,
    compare_decided,
    compare_within,
    design_of,
    predictive_power,
    spent,
)
from ema_lab.statistics.sequential import MIN_SEEDS, SequentialComparison, compare_sequentially, decide

VALUES = st.lists(st.integers(-500, 500).map(lambda i: i / 100), min_size=3, max_size=12)
LEVELS = [0.3, 0.05, 0.05 / 6, 0.001]


def statistics_of(effect, max_seeds, count, seed=0):
    """Return t after 3, ..., `max_seeds` seeds of `count` experiments; deviation 1."""
    values = np.random.default_rng(seed).normal(effect, 1, (count, max_seeds))
    n = np.arange(1, max_seeds + 1)
    means = values.cumsum(axis=1) / n
    squares = (values**2).cumsum(axis=1) - n * means**2
    return (means * np.sqrt(n))[:, 2:] / np.sqrt(squares[:, 2:] / (n[2:] - 1))


def criticals(max_seeds, level):
    return np.array([design_of(max_seeds).critical(n, level) for n in range(MIN_SEEDS, max_seeds + 1)])


def followed(t, level):
    """Return for each experiment whether it is decided, and its seeds, if futile experiments end."""
    max_seeds = t.shape[1] + MIN_SEEDS - 1
    limits = criticals(max_seeds, level)
    ended, decided = np.zeros(len(t), dtype=bool), np.zeros(len(t), dtype=bool)
    seeds = np.full(len(t), max_seeds)
    for look, n in enumerate(range(MIN_SEEDS, max_seeds)):
        crosses = np.abs(t[:, look]) > limits[look]
        futile = predictive_power(t[:, look], n, max_seeds, limits[-1]) < FUTILE
        seeds[~ended & (crosses | futile)] = n
        decided |= ~ended & crosses
        ended |= crosses | futile
    return decided | (~ended & (np.abs(t[:, -1]) > limits[-1])), seeds


@pytest.mark.parametrize("level", LEVELS)
def test_a_single_look_is_the_plain_t_test(level):
    assert design_of(3).critical(3, level) == pytest.approx(t_quantile(2, 1 - level), rel=2e-3)
    differences = [1.0, 1.2, 0.7]
    assert compare_within(differences, 3).p == pytest.approx(paired_test(differences).p, rel=2e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(3, 25))
def test_boundaries_fall_with_the_seeds_and_with_the_level(max_seeds):
    boundaries = design_of(max_seeds).boundaries
    assert boundaries.shape[0] == max_seeds - 2
    assert (np.diff(boundaries, axis=0) < 1e-9).all()
    assert (np.diff(boundaries, axis=1) < 1e-9).all()  # nested: so the p-value of a look is unique


@pytest.mark.parametrize("max_seeds", [3, 10, 20, MOST_PLANNED])
def test_the_shares_that_the_looks_spend_rise_to_the_whole_error(max_seeds):
    shares = [spent(count, max_seeds) for count in range(2, max_seeds + 1)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert max_seeds == 3 or shares[len(shares) // 2] < 0.1  # most of it is left for the last seeds


@pytest.mark.parametrize("level", LEVELS)
def test_the_error_of_every_look_is_the_share_it_may_spend(level):
    crosses = np.abs(statistics_of(0.0, 12, 40_000)) > criticals(12, level)
    for count in range(MIN_SEEDS, 13):
        error = crosses[:, : count - 2].any(axis=1).mean()
        expected = level * spent(count, 12)
        assert error == pytest.approx(expected, abs=4 * math.sqrt(expected / 40_000) + 1e-5)


@pytest.mark.parametrize("count", [3, 7, 12])
@pytest.mark.parametrize("level", LEVELS)
def test_the_p_value_of_a_boundary_is_its_level(count, level):
    design = design_of(12)
    assert design.level(count, design.critical(count, level)) == pytest.approx(level, rel=0.01)
    assert design.level(count, -design.critical(count, level)) == pytest.approx(level, rel=0.01)
    assert design.level(count, 1e9) == pytest.approx(1e-6)


@settings(deadline=None)
@given(VALUES)
def test_what_is_decided_stays_decided(differences):
    p_values = [compare_within(differences[:count], 12).p for count in range(len(differences) + 1)]
    assert p_values == sorted(p_values, reverse=True)


@settings(deadline=None)
@given(VALUES, st.sampled_from([1, 4]))
def test_an_interval_without_zero_is_a_decision(differences, comparisons):
    compared = compare_within(differences, 12, comparisons)
    if abs(compared.p * comparisons - 0.05) > 1e-3:
        assert (compared.p * comparisons < 0.05) == (compared.low > 0 or compared.high < 0)


def test_later_looks_never_widen_the_interval():
    differences = np.random.default_rng(0).normal(1, 1, 12).tolist()
    intervals = [compare_within(differences[:count], 12) for count in range(3, 13)]
    assert [each.low for each in intervals] == sorted(each.low for each in intervals)
    assert [each.high for each in intervals] == sorted((each.high for each in intervals), reverse=True)
    assert compare_within(differences, 12, 6).low < compare_within(differences, 12).low


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, 1.000001], [2.0, 2.0, 2.0]])
def test_nothing_is_known_of_too_few_or_equal_differences(differences):
    compared = compare_within(differences, 12)
    assert (compared.low, compared.high, compared.p) == (-math.inf, math.inf, 1.0)
    assert compared.futile_level == 0


@pytest.mark.parametrize(("t", "count"), [(0.3, 5), (1.5, 10), (2.5, 18)])
def test_the_predictive_power_is_the_share_of_futures_that_decide(t, count):
    """With n seeds of mean m and deviation s, the mean of the other seeds is m + s √(1/n + 1/(N-n)) T."""
    left, mean = 20 - count, t / math.sqrt(count)
    draws = np.random.default_rng(0).standard_t(count - 1, 100_000)
    future = mean + math.sqrt(1 / count + 1 / left) * draws
    final = np.abs(count * mean + left * future) / math.sqrt(20)
    assert predictive_power(t, count, 20, np.array([2.2])) == pytest.approx((final > 2.2).mean(), abs=0.006)


def test_a_comparison_without_prospect_is_futile():
    nothing = [0.1, -0.1, 0.12, -0.11, 0.09, -0.1, 0.1, -0.12, 0.1, -0.1, 0.11, -0.1]
    compared = compare_within(nothing, 14)
    assert decide([compared], +1) == ["futile"]
    assert decide([compared], +1, margin=0.001) == ["open"]  # its equality may still be shown
    assert decide([compare_sequentially(nothing)], +1) == ["open"]  # without a plan nothing is futile
    assert compare_within(nothing, 12).futile_level == 0  # after the last seed none can be saved
    assert decide([compare_within([0.5, 0.4, 0.9, 0.1], 14)], +1) == ["open"]


def test_futility_is_judged_at_the_level_that_holm_leaves():
    clear = SequentialComparison(8, 1.0, 0.5, 1.5, 1e-6)
    doubtful = SequentialComparison(8, 0.1, -0.5, 0.7, 0.4, futile_level=0.03)
    assert decide([doubtful, doubtful], +1) == ["futile", "futile"]  # 0.025 each
    assert decide([clear, doubtful], +1) == ["better", "open"]  # 0.05 is left


def test_a_plan_takes_no_more_seeds_than_it_has():
    with pytest.raises(ValueError, match="the design ends at seed 3, the differences at seed 4"):
        compare_within([1.0, 2.0, 3.0, 4.0], 3)
    for number in (MIN_SEEDS - 1, MOST_PLANNED + 1):
        with pytest.raises(ValueError, match=f"got {number}"):
            design_of(number)
        with pytest.raises(ValidationError, match="decided"):
            DecidedSeeds(decided=number)
    assert DecidedSeeds(decided=MIN_SEEDS) != DecidedSeeds(decided=MOST_PLANNED)


def test_without_a_planned_number_the_always_valid_test_compares():
    differences = [1.0, 1.4, 0.8, 1.1]
    assert compare_decided(differences, 2, None) == compare_sequentially(differences, 2)
    assert compare_decided(differences, 2, 8) == compare_within(differences, 8, 2)


@pytest.mark.slow
class TestSimulations:
    """Experiments of at most 20 seeds and a deviation of 1; a decision after every seed."""

    @pytest.mark.parametrize("level", [0.05, 0.05 / 6])
    @pytest.mark.parametrize("max_seeds", [5, 10, 20])
    def test_the_error_is_held(self, level, max_seeds):
        t = statistics_of(0.0, max_seeds, 40_000, seed=1)
        all_looks = (np.abs(t) > criticals(max_seeds, level)).any(axis=1).mean()
        margin = 2.5 * math.sqrt(level / 40_000)
        assert all_looks == pytest.approx(level, abs=margin)  # futile comparisons went on
        assert followed(t, level)[0].mean() <= level + margin

    @pytest.mark.parametrize("level", [0.05, 0.05 / 6])
    @pytest.mark.parametrize("effect", [0.5, 0.8, 1.0])
    def test_power_is_near_that_of_twenty_seeds_with_fewer_seeds(self, effect, level):
        t = statistics_of(effect, 20, 20_000, seed=2)
        fixed = (np.abs(t[:, -1]) > t_quantile(19, 1 - level)).mean()
        decided, seeds = followed(t, level)
        assert fixed - 0.05 < decided.mean() <= fixed
        assert seeds.mean() < 17.5

    def test_without_an_effect_a_third_of_the_seeds_is_saved(self):
        assert followed(statistics_of(0.0, 20, 20_000, seed=3), 0.05)[1].mean() < 14.5

    def test_any_false_difference_of_a_family_without_effects(self):
        """Six rows share a baseline. Holm's first step is the level divided by six."""
        values = np.random.default_rng(4).normal(0, 1, (5000, 7, 20))
        rows = (values[:, 1:] - values[:, :1]).reshape(-1, 20)
        n = np.arange(1, 21)
        means = rows.cumsum(axis=1) / n
        squares = (rows**2).cumsum(axis=1) - n * means**2
        t = (means * np.sqrt(n))[:, 2:] / np.sqrt(squares[:, 2:] / (n[2:] - 1))
        wrong = (np.abs(t) > criticals(20, 0.05 / 6)).any(axis=1).reshape(-1, 6).any(axis=1)
        assert wrong.mean() <= 0.05

    def test_any_false_difference_of_a_family_beside_true_ones(self):
        effects = np.array([1.2, 1.2, 0.0, 0.0])
        random = np.random.default_rng(4)
        wrong, tables = 0, 150
        for _ in range(tables):
            values = random.normal(0, math.sqrt(0.5), (5, 20))
            rows = values[1:] + effects[:, None] - values[0]
            decisions = decide([compare_within(row.tolist(), 20, 4) for row in rows], +1)
            wrong += any(decision in ("better", "worse") for decision in decisions[2:])
        assert wrong / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)

    def test_the_interval_covers_at_every_look_at_once(self):
        t = statistics_of(0.0, 20, 40_000, seed=5)  # the interval of m holds 0 where that of m + d holds d
        assert (np.abs(t) < criticals(20, 0.05)).all(axis=1).mean() == pytest.approx(0.95, abs=0.003)

    @pytest.mark.parametrize("noise", ["laplace", "uniform", "lognormal"])
    def test_other_noise_than_normal_barely_moves_the_error(self, noise):
        random = np.random.default_rng(6)
        draw = {"laplace": random.laplace, "uniform": random.uniform, "lognormal": random.lognormal}[noise]
        values = draw(size=(20_000, 20)) - draw(size=(20_000, 20))  # paired differences are symmetric
        n = np.arange(1, 21)
        means = values.cumsum(axis=1) / n
        squares = (values**2).cumsum(axis=1) - n * means**2
        t = (means * np.sqrt(n))[:, 2:] / np.sqrt(squares[:, 2:] / (n[2:] - 1))
        assert (np.abs(t) > criticals(20, 0.05)).any(axis=1).mean() <= 0.06

    def test_differences_in_steps_of_one_image_hold_the_error(self):
        """Deviation 0.4 points on 360 images: a deviation of two steps between two runs."""
        steps = np.round(np.random.default_rng(7).normal(0, 0.4 * 3.6, (2, 20_000, 20)))
        values = steps[0] - steps[1]
        n = np.arange(1, 21)
        means = values.cumsum(axis=1) / n
        squares = ((values**2).cumsum(axis=1) - n * means**2)[:, 2:]
        errors = np.sqrt(np.maximum(squares, 0) / (n[2:] - 1))
        has_spread = squares > 1e-9
        t = np.where(has_spread, means[:, 2:] * np.sqrt(n[2:]) / np.where(has_spread, errors, 1.0), 0.0)
        assert (np.abs(t) > criticals(20, 0.05)).any(axis=1).mean() <= 0.055
