"""The pooled analysis: moderated variances, their check, and tests that need two agreements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bartlett, f, ttest_rel
from simulated import (
    BEYOND,
    NOISE,
    ROWS,
    SEEDS,
    Design,
    holm_rows,
    paired_p,
    pooled_p,
    power_of_last,
    unpaired_p,
    worst_error,
)

from ema_lab.statistics import holm, paired_difference, paired_test, rank_rows
from ema_lab.statistics.moderation import moderate, pairs_correlation
from ema_lab.statistics.pooled import corrected_p, paired_contrast, pooled_contrasts

VARIANCES = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=9)
SHIFTS = st.floats(-50.0, 50.0)


def tables(count, rows, seeds):
    return Design(rows, seeds, effects=1.0).experiments(count, seed=4)


class TestModeratedVariances:
    @pytest.mark.parametrize(
        ("rows", "degrees", "expected"), [(2, 2, 3.2), (7, 2, 5.6), (9, 2, 6), (9, 9, 27)]
    )
    def test_equal_variances_stay_and_gain_degrees(self, rows, degrees, expected):
        """Correlated rows: k (n - 1) / (1 + (k - 1) / 4) degrees of freedom, at most 3 (n - 1)."""
        found = moderate(np.full(rows, 4.0), np.full(rows, float(degrees)))
        assert found.variances == pytest.approx(4.0)
        assert found.degrees == pytest.approx(expected)
        assert found.is_pooled.all()
        assert not found.is_left_out.any()

    def test_a_third_is_a_rows_own_but_never_less(self):
        found = moderate(np.array([1.0, 2.0]), np.array([2.0, 2.0]))  # equal enough for the whole weight
        assert found.weights.tolist() == [2.0]
        assert found.variances == pytest.approx([1 / 3 + 2 / 3 * 1.5, 2.0])

    def test_the_weight_falls_with_the_p_value_of_bartletts_test(self):
        samples = np.random.default_rng(3).normal(0, [[1], [2], [3], [4]], (4, 6))
        p = bartlett(*samples).pvalue
        assert 0.05 < p < 0.5
        found = moderate(samples.var(1, ddof=1), np.full(4, 5.0))
        assert found.weights == pytest.approx([2 * p / 0.5])

    def test_bartletts_test_with_unequal_numbers_of_seeds(self):
        random = np.random.default_rng(8)
        samples = [random.normal(0, scale, size) for scale, size in ((1, 3), (1.5, 5), (2.2, 8))]
        found = moderate(
            np.array([each.var(ddof=1) for each in samples]), np.array([len(each) - 1.0 for each in samples])
        )
        assert found.weights == pytest.approx([min(2, 2 * bartlett(*samples).pvalue / 0.5)])

    def test_rows_that_clearly_differ_share_next_to_nothing(self):
        variances = np.array([1.0, 1.0, 1.0, 30.0, 30.0, 30.0])
        found = moderate(variances, np.full(6, 9.0))
        assert not found.is_left_out.any()  # no row stands out
        assert found.weights[0] < 0.001
        assert found.variances == pytest.approx(variances, rel=0.01)
        assert found.degrees == pytest.approx(9, rel=0.001)

    @given(VARIANCES, st.integers(1, 19), st.floats(0.1, 10.0))
    def test_bounds_and_scale(self, variances, degrees, scale):
        given_, all_degrees = np.array(variances), np.full(len(variances), float(degrees))
        found, scaled = moderate(given_, all_degrees), moderate(scale * given_, all_degrees)
        assert (found.variances >= given_).all()
        assert (found.variances <= given_.max() * (1 + 1e-12)).all()
        assert ((found.degrees >= degrees) & (found.degrees <= 3 * degrees)).all()
        assert found.degrees[found.is_left_out] == pytest.approx(degrees)
        assert not (found.is_pooled & found.is_left_out).any()
        if (found.is_pooled == scaled.is_pooled).all():  # a check at its limit may tip by rounding
            assert scaled.variances == pytest.approx(scale * found.variances)
        assert 0 <= found.weights[0] <= 2

    def test_the_check_is_an_f_test_at_one_percent_over_the_rows(self):
        degrees = np.full(5, 4.0)
        limit = f.ppf(1 - 0.01 / 5, 4, 4 * 4 / (1 + 3 / 4))
        below = moderate(np.array([1.0, 1, 1, 1, limit * 0.999]), degrees)
        above = moderate(np.array([1.0, 1, 1, 1, limit * 1.001]), degrees)
        assert not below.is_left_out.any()
        assert above.is_left_out.tolist() == [False] * 4 + [True]
        assert above.variances == pytest.approx([1, 1, 1, 1, limit * 1.001])
        assert above.degrees == pytest.approx([4 * 4 / (1 + 3 / 4)] * 4 + [4])

    def test_rows_without_a_variance_neither_give_nor_take(self):
        found = moderate(np.array([2.0, 0.0, 4.0, 0.0]), np.array([2.0, 2.0, 2.0, 0.0]))
        alone = moderate(np.array([2.0, 4.0]), np.array([2.0, 2.0]))
        assert found.variances[[0, 2]] == pytest.approx(alone.variances)
        assert found.degrees[[0, 2]] == pytest.approx(alone.degrees)
        assert found.variances[[1, 3]].tolist() == [0, 0]
        assert found.is_pooled.tolist() == [True, False, True, False]

    def test_pairs_of_rows_have_the_residuals_of_a_seed_blocked_analysis(self):
        """The mean variance of all pairs is twice the residual mean square of rows and seeds."""
        values = np.random.default_rng(0).normal(0, 1, (5, 4)) + np.arange(4)
        residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        degrees = (5 - 1) * (4 - 1)
        pairs = np.array([(values[i] - values[j]).var(ddof=1) for i in range(5) for j in range(i)])
        assert pairs.mean() == pytest.approx(2 * (residuals**2).sum() / degrees)
        found = moderate(np.ones(10), np.full(10, 3.0), pairs_correlation(5))
        assert found.degrees == pytest.approx(min(3 * 3, degrees))


class TestContrasts:
    def test_a_single_row_is_a_paired_t_test(self):
        values = tables(1, 1, 5)[0]
        differences = (values[1] - values[0]).tolist()
        found = pooled_contrasts([differences])
        expected = ttest_rel(values[1], values[0]).pvalue
        assert not found.has_pool
        assert corrected_p(found.contrasts) == pytest.approx([expected])
        assert found.contrasts[0].raw_p() == pytest.approx(expected)
        expected = paired_difference(differences)
        assert found.contrasts[0].interval() == expected

    def test_without_a_pool_it_is_holm_of_paired_t_tests(self):
        """A row that stands out is tested by itself, and so is the only other one."""
        rows = [[0.1, 0.2, 0.15, 0.12], [40.0, -30.0, 10.0, 80.0]]
        found = pooled_contrasts(rows)
        assert found.left_out == (1,)
        assert found.weight == 0
        assert not found.has_pool
        assert corrected_p(found.contrasts) == pytest.approx(holm([paired_test(row).p for row in rows]))

    @given(st.lists(st.lists(st.integers(-40, 40), min_size=4, max_size=4), min_size=1, max_size=5), SHIFTS)
    def test_a_shift_of_all_differences_moves_intervals_alone(self, rows, shift):
        before = pooled_contrasts([[value / 8 for value in row] for row in rows])
        after = pooled_contrasts([[value / 8 + shift for value in row] for row in rows])
        assert before.left_out == after.left_out
        for mine, moved in zip(before.contrasts, after.contrasts, strict=True):
            assert mine.why == moved.why
            assert moved.mean == pytest.approx(mine.mean + shift)
            widths = [each.interval(5).high - each.interval(5).low for each in (mine, moved)]
            assert widths[0] == pytest.approx(widths[1], abs=1e-6, nan_ok=True)

    @given(st.lists(st.lists(st.integers(-40, 40), min_size=4, max_size=4), min_size=1, max_size=5))
    def test_p_agrees_with_the_intervals(self, rows):
        """A significant difference has an interval of its own without zero; if not corrected, both ways."""
        found = pooled_contrasts([[value / 8 for value in row] for row in rows]).contrasts
        for each, p in zip(found, corrected_p(found), strict=True):
            if each.pooled and not math.isnan(p):
                assert p == 1 or p >= each.own.p(each.mean) * 0.05 / 0.04
            if math.isnan(p):
                assert not each.interval().has_interval
                continue
            assert each.raw_p() <= p * (1 + 1e-12)
            together, alone = each.interval(len(rows)), each.interval()
            assert together.low <= alone.low <= alone.high <= together.high
            if p < 0.05:
                assert not alone.low <= 0 <= alone.high
            if not together.low <= 0 <= together.high:
                assert p < 0.05 * (1 + 1e-9)

    def test_untestable_rows_count_towards_the_family(self):
        rows = [[1.0, 2.9, 0.3, 2.1], [1.0, 0.2, 2.1, 1.3], [0.5] * 4, [3.0], []]
        found = pooled_contrasts(rows)
        p = corrected_p(found.contrasts)
        assert [math.isnan(each) for each in p] == [False, False, True, True, True]
        least = min(found.contrasts[:2], key=lambda each: each.family_p())
        assert p[found.contrasts.index(least)] == pytest.approx(max(least.own_p(), 5 * least.family_p()))
        assert [each.why for each in found.contrasts[2:]] == [
            "all differences are equal",
            *["a test needs two pairs"] * 2,
        ]

    def test_equivalence_needs_both_variances_too(self):
        rows = [[0.1, -0.1, 0.05, 0.0], [0.2, -0.3, 0.1, 0.1], [0.0, 0.1, -0.2, 0.2]]
        found = pooled_contrasts(rows).contrasts
        p = corrected_p(found, margin=0.5)
        assert all(each.pooled is not None for each in found)
        family = holm([each.family_p(0.5) for each in found])
        own = [each.own_p(0.5) for each in found]
        assert p == [max(both) for both in zip(family, own, strict=True)]
        assert sum(p) < sum(holm(own))  # pooling shows what single rows cannot

    def test_the_vectorised_simulation_computes_these_p_values(self):
        for values in tables(40, 4, 3):
            rows = (values[1:] - values[0]).tolist()
            assert pooled_p(values[None])[0] == pytest.approx(corrected_p(pooled_contrasts(rows).contrasts))
            assert paired_p(values[None])[0] == pytest.approx(
                holm([paired_contrast(row).own_p() for row in rows])
            )
        p = np.random.default_rng(0).random((20, 6))
        assert holm_rows(p).tolist() == [pytest.approx(holm(row)) for row in p.tolist()]


class TestRanks:
    def marks(self, effects, count=150, seeds=4, **keys):
        values = Design(4, seeds, effects=effects).experiments(count, seed=9)
        return [rank_rows([dict(enumerate(row)) for row in table], +1, **keys) for table in values]

    def test_pooling_finds_more_best_rows(self):
        effects = [0.0, 0.0, 0.0, 4.0]
        alone, pooled = (
            np.mean([marks[4] == "best" for marks in self.marks(effects, pooled=pooled)])
            for pooled in (False, True)
        )
        assert pooled > alone + 0.2

    def test_two_rows_have_nothing_to_pool(self):
        rows = [dict(enumerate(row)) for row in ([1.0, 2.0, 1.5], [3.0, 4.1, 3.6])]
        assert rank_rows(rows, +1, pooled=True) == rank_rows(rows, +1) == [None, "best"]

    def test_identical_rows_are_tied_and_single_seeds_untested(self):
        rows = [{0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, {0: 5.0}, {}]
        assert rank_rows(rows, +1, pooled=True) == [None, None, "untested", None]


@pytest.mark.slow
class TestErrorRates:
    """The bounds that `docs/statistics.md` states. Its tables come from more experiments."""

    COUNT = 4000
    CHANCE = 0.01  # three standard errors of a rate of 5 % in that many experiments

    @pytest.mark.parametrize("noise", [kind for kind in NOISE if kind not in BEYOND])
    @pytest.mark.parametrize("seeds", SEEDS)
    def test_family_wise_error(self, noise, seeds):
        assert (
            max(worst_error(pooled_p, rows, seeds, noise, self.COUNT) for rows in ROWS) <= 0.065 + self.CHANCE
        )

    @pytest.mark.parametrize("noise", BEYOND)
    def test_where_the_error_is_larger_it_is_documented(self, noise):
        errors = [worst_error(pooled_p, rows, 5, noise, self.COUNT) for rows in ROWS]
        assert 0.065 < max(errors) <= 0.1 + self.CHANCE

    @pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
    @pytest.mark.parametrize("seeds", SEEDS)
    def test_power_against_paired_and_unpaired_tests(self, correlation, seeds):
        """Where two rows are hardly correlated, unpaired tests have degrees of freedom that pairs lack."""
        for rows in ROWS:
            design = Design(rows, seeds, "normal", correlation, [0.0] * (rows - 1) + [2.0])
            unpaired, paired, pooled = (
                power_of_last(rule, design, self.COUNT) for rule in (unpaired_p, paired_p, pooled_p)
            )
            allowed = (
                {0.0: 0.105, 0.3: 0.04}.get(correlation, 0.0) if rows == 2 else 0.035 * (correlation == 0)
            )
            assert pooled >= paired - self.CHANCE
            assert pooled >= unpaired - allowed - self.CHANCE

    @pytest.mark.parametrize(("seeds", "old", "new"), [(3, 0.05, 0.11), (5, 0.22, 0.42), (10, 0.81, 0.89)])
    def test_power_of_seven_rows(self, seeds, old, new):
        design = Design(7, seeds, effects=[0.0] * 6 + [2.0])
        assert power_of_last(paired_p, design, self.COUNT) == pytest.approx(old, abs=0.025)
        assert power_of_last(pooled_p, design, self.COUNT) == pytest.approx(new, abs=0.025)

    @pytest.mark.parametrize("effects", [0.0, [-9.0, -9.0, -9.0, 0.0]])
    @pytest.mark.parametrize("noise", ["normal", "one row at 3x the deviation", "loud baseline (3x)"])
    def test_false_best_rows(self, effects, noise):
        """With two equal best rows, calling one the best is as wrong as in a table of equal rows."""
        values = Design(4, 3, noise, effects=effects).experiments(1000)
        marks = [rank_rows([dict(enumerate(row)) for row in table], +1, pooled=True) for table in values]
        assert np.mean(["best" in each for each in marks]) <= 0.065 + 2 * self.CHANCE

    def test_simultaneous_intervals_hold_together(self):
        values = Design(7, 3).experiments(1000)
        covered = 0
        for table in values:
            contrasts = pooled_contrasts((table[1:] - table[0]).tolist()).contrasts
            intervals = [each.interval(7) for each in contrasts]
            covered += all(each.low <= 0 <= each.high for each in intervals)
        assert covered / 1000 >= 0.93
