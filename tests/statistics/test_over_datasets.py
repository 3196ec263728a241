"""Means over data sets, on experiments whose truth is known: seeds of one data set are no new data sets."""

import numpy as np

from ema_lab.statistics import holm, paired_difference, paired_test

SEEDS = 5


def differences(count, datasets, *, effect=0.0, seed=0):
    """Return differences (experiment, data set, seed): methods gain on some data sets and lose on others."""
    random = np.random.default_rng(seed)
    of_data = random.normal(effect, 1.0, (count, datasets, 1))
    return of_data + random.normal(0, 0.5, (count, datasets, SEEDS))


def covers(values, truth):
    estimate = paired_difference(values)
    return estimate.low <= truth <= estimate.high


def test_the_interval_over_data_sets_holds_for_further_data_sets():
    found = differences(1500, 4, effect=0.7)
    assert 0.93 <= np.mean([covers(table.mean(1).tolist(), 0.7) for table in found]) <= 0.97


def test_an_interval_over_all_runs_would_not():
    """Twenty runs on four data sets are four observations of what another data set would give."""
    found = differences(500, 4, effect=0.7)
    assert np.mean([covers(table.ravel().tolist(), 0.7) for table in found]) < 0.75


def test_comparisons_with_a_control_keep_the_family_wise_error():
    """Six methods without an effect share the control's noise on each data set."""
    random, wrong = np.random.default_rng(1), 0
    for _ in range(1000):
        control = random.normal(0, 1, 5)
        methods = random.normal(0, 1, (6, 5))
        wrong += min(holm([paired_test((each - control).tolist()).p for each in methods])) < 0.05
    assert wrong / 1000 <= 0.065


def test_a_control_that_loses_everywhere_is_found():
    found = differences(200, 8, effect=2.5, seed=2)
    assert np.mean([paired_test(table.mean(1).tolist()).p < 0.05 for table in found]) > 0.9
