"""Comparisons looked at after every seed: the always-valid test and its interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import nct, norm, t

from ema_lab.statistics import summarise
from ema_lab.statistics.sequential import (
    SequentialComparison,
    compare_sequentially,
    confidence_half_width,
    decide,
    e_value,
)

VALUES = st.lists(st.integers(-500, 500).map(lambda i: i / 100), min_size=3, max_size=20)


@pytest.mark.parametrize("differences", [[1.0, 2.0, 3.0], [0.1, -0.2, 0.4, 0.3, 0.8], [5.0, 5.2, 4.9, 5.1]])
def test_the_evidence_is_the_bayes_factor_of_the_t_statistic(differences):
    """The marginal likelihood of t under a normal effect, by numerical integration."""
    count = len(differences)
    statistic = np.mean(differences) / (np.std(differences, ddof=1) / math.sqrt(count))

    def integrand(effect):
        return nct.pdf(statistic, count - 1, math.sqrt(count) * effect) * norm.pdf(effect, 0, 2)

    marginal = quad(integrand, -14, 14, limit=400)[0]
    assert e_value(differences) == pytest.approx(marginal / t.pdf(statistic, count - 1), rel=1e-4)


@given(VALUES, st.floats(0.001, 0.2))
def test_the_interval_holds_what_the_test_does_not_reject(differences, significance):
    half = confidence_half_width(summarise(differences), significance)
    if math.isinf(half):
        return
    mean = float(np.mean(differences))
    inside = [value - mean - 0.999 * half for value in differences]
    outside = [value - mean - 1.001 * half for value in differences]
    assert e_value(inside) < 1 / significance < e_value(outside)


@pytest.mark.parametrize("differences", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_is_known_of_too_few_or_equal_differences(differences):
    assert e_value(differences) == 1.0
    assert not differences or math.isinf(confidence_half_width(summarise(differences), 0.05))
    found = compare_sequentially(differences)
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)


@given(VALUES)
def test_what_is_decided_stays_decided(differences):
    p_values = [compare_sequentially(differences[:count]).p for count in range(len(differences) + 1)]
    assert p_values == sorted(p_values, reverse=True)


def test_decisions_name_the_direction():
    random = np.random.default_rng(0)
    clear = compare_sequentially((2 + random.normal(0, 0.3, 12)).tolist(), 2)
    unclear = compare_sequentially(random.normal(0, 0.3, 12).tolist(), 2)
    assert decide([clear, unclear], +1) == ["better", "open"]
    assert decide([clear, unclear], -1) == ["worse", "open"]


def test_rows_are_equal_only_within_a_margin_that_is_given():
    small = compare_sequentially(np.random.default_rng(1).normal(0, 0.05, 15).tolist(), 1)
    assert decide([small], +1) == ["open"]
    assert decide([small], +1, margin=0.5) == ["equal"]
    assert decide([compare_sequentially([0.1, 0.2])], +1, margin=0.5) == ["open"]


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (-0.4, 0.4, "equal"),
        (-0.6, 0.4, "open"),
        (-0.4, 0.6, "open"),
        (-0.5, 0.4, "open"),
        (-0.4, 0.5, "open"),
        (-math.inf, math.inf, "open"),
    ],
)
def test_equal_is_said_of_the_whole_interval_and_not_of_the_mean(low, high, decision):
    for mean in (-0.1, 0.0, 0.1):
        assert decide([SequentialComparison(5, mean, low, high, 1.0)], +1, margin=0.5) == [decision]
