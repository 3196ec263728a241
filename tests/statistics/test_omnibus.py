"""One F test per factor, blocked by seed: against statsmodels, and on experiments whose truth is known."""

import itertools
import math
import warnings

import numpy as np
import pandas
import pytest
from statsmodels.stats.anova import AnovaRM

from ema_lab.statistics import holm
from ema_lab.statistics.factorial import effects
from ema_lab.statistics.omnibus import omnibus_tests

FACTORS = ("size", "norm")


def experiment(random, shape, seeds, *, main=0.0, both=0.0, noise=None):
    """Return values by combination and seed; `main` is the effect of the last level of the first factor.

    `both`: effect of the last level of both factors together. `noise`: deviation by combination.
    """
    of_seed = random.normal(0, 2, seeds)
    values = {}
    for key in itertools.product(*map(range, shape)):
        scale = 0.5 if noise is None else noise[key]
        mean = main * (key[0] == shape[0] - 1) + both * (key[0] == shape[0] - 1 and key[1] == shape[1] - 1)
        numbers = 90 + mean + of_seed + random.normal(0, scale, seeds)
        values[tuple(map(str, key))] = dict(enumerate(numbers.tolist()))
    return values


@pytest.mark.parametrize(("shape", "seeds"), [((2, 2), 3), ((3, 2), 5), ((4, 3), 6)])
def test_f_is_that_of_statsmodels(shape, seeds):
    values = experiment(np.random.default_rng(0), shape, seeds, main=0.5)
    rows = [(*key, seed, value) for key, by_seed in values.items() for seed, value in by_seed.items()]
    frame = pandas.DataFrame(rows, columns=[*FACTORS, "seed", "value"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own, inside of statsmodels
        theirs = AnovaRM(frame, "value", "seed", within=list(FACTORS)).fit().anova_table
    found = omnibus_tests(values, FACTORS)
    assert [test.factors for test in found] == [("size",), ("norm",), ("size", "norm")]
    assert [test.f for test in found] == pytest.approx(theirs["F Value"].tolist())
    for test, size, p in zip(found, theirs["Num DF"], theirs["Pr > F"], strict=True):
        assert 1 - 1e-9 <= test.degrees[0] <= size + 1e-9  # between the lower bound and no correction
        assert test.degrees[1] == pytest.approx(test.degrees[0] * (seeds - 1))
        if size == 1:
            assert test.p == pytest.approx(p)


def test_degrees_are_corrected_by_greenhouse_and_geissers_formula():
    """Their epsilon (1958) from the covariance of four levels with unequal noise."""
    noise = {(level, 0): deviation for level, deviation in enumerate((0.2, 0.5, 1.0, 3.0))}
    values = experiment(np.random.default_rng(2), (4, 1), 6, noise=noise)
    covariance = np.cov([list(values[str(level), "0"].values()) for level in range(4)])
    grand = covariance.mean()
    above = 16 * (covariance.diagonal().mean() - grand) ** 2
    below = (covariance**2).sum() - 8 * (covariance.mean(axis=0) ** 2).sum() + 16 * grand**2
    epsilon = above / (3 * below)
    assert epsilon < 0.6
    [test] = omnibus_tests(values, FACTORS)
    assert test.degrees == pytest.approx((3 * epsilon, 15 * epsilon))


def test_two_levels_give_the_paired_t_test():
    values = experiment(np.random.default_rng(1), (2, 3), 4, main=0.4)
    [effect] = [each for each in effects(values, FACTORS) if each.factors == ("size",)]
    test = omnibus_tests(values, FACTORS)[0]
    assert test.p == pytest.approx(effect.test.p)
    assert test.f == pytest.approx(effect.test.t**2)


def test_what_cannot_be_tested_says_why():
    values = experiment(np.random.default_rng(2), (2, 2), 1)
    assert {(math.isnan(each.p), each.why) for each in omnibus_tests(values, FACTORS)} == {
        (True, "a test needs two seeds")
    }
    equal = {key: {0: 90.0 + number, 1: 91.0 + number} for number, key in enumerate(values)}
    assert {each.why for each in omnibus_tests(equal, FACTORS)} == {"all differences are equal"}
    del values["0", "1"]
    with pytest.raises(ValueError, match="0 x 1 is missing"):
        omnibus_tests(values, FACTORS)


NOISY = {key: 1.5 if key == (2, 1) else 0.5 for key in itertools.product(range(3), range(2))}


def share(count, seeds, *, noise=None, shape=(3, 2), **truth):
    """Return the share of experiments in which each test is below 5 %."""
    random = np.random.default_rng(seeds)
    found = [
        [
            test.p < 0.05
            for test in omnibus_tests(experiment(random, shape, seeds, noise=noise, **truth), FACTORS)
        ]
        for _ in range(count)
    ]
    return np.mean(found, axis=0)


class TestErrorAndPower:
    def test_without_an_effect_the_error_is_at_most_the_level(self):
        assert (share(500, 4) <= 0.065).all()

    def test_an_effect_is_found_where_it_is(self):
        size, norm, both = share(200, 6, main=1.5)
        assert size > 0.9
        assert max(norm, both) < 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("seeds", [3, 5, 10])
    @pytest.mark.parametrize("noise", [None, NOISY])
    def test_the_error_holds_also_where_one_combination_is_three_times_as_noisy(self, seeds, noise):
        assert (share(3000, seeds, noise=noise) <= 0.065).all()

    def test_separate_families_find_more_main_effects_and_keep_the_error(self):
        """One family of all contrasts, as before, against one of main effects and one of interactions."""
        random, found, wrong = np.random.default_rng(5), np.zeros(2), np.zeros(2)
        for _ in range(300):
            contrasts = effects(experiment(random, (3, 3), 5, main=1.1), FACTORS)
            p = [each.test.p for each in contrasts]
            mains = [len(each.factors) == 1 for each in contrasts]
            apart = holm([value for value, is_main in zip(p, mains, strict=True) if is_main])
            together = [value for value, is_main in zip(holm(p), mains, strict=True) if is_main]
            truth = [
                each.levels == ("2",) and each.factors == ("size",)
                for each in contrasts
                if len(each.factors) == 1
            ]
            for index, corrected in enumerate((together, apart)):
                found[index] += any(
                    value < 0.05 for value, is_true in zip(corrected, truth, strict=True) if is_true
                )
                wrong[index] += any(
                    value < 0.05 for value, is_true in zip(corrected, truth, strict=True) if not is_true
                )
        assert found[1] > found[0] + 15
        assert wrong[1] / 300 <= 0.065
