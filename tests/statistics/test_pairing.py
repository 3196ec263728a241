"""The ratio of paired to unpaired variances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.statistics.pairing import pairing_ratio

VALUES = st.lists(st.tuples(*[st.integers(-400, 400)] * 2), min_size=3, max_size=8)


@given(VALUES, st.integers(-50, 50), st.sampled_from([0.25, 2.0, 64.0]))
def test_it_is_the_ratio_of_variances_whatever_shift_and_unit(pairs, shift, unit):
    row, baseline = map(np.array, zip(*pairs, strict=True))
    found = pairing_ratio((unit * row + shift).tolist(), (unit * baseline - shift).tolist())
    unpaired = row.var(ddof=1) + baseline.var(ddof=1)
    if unpaired == 0:
        assert math.isnan(found.ratio)
        assert found.why == "all values are equal"
        return
    assert found.ratio == pytest.approx((row - baseline).var(ddof=1) / unpaired, abs=1e-9)
    assert 0 <= found.low <= found.ratio <= found.high <= 2


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.0), (-1, 2.0)])
def test_its_limits_are_those_of_correlation(sign, expected):
    values = [90.0, 91.5, 89.2]
    found = pairing_ratio(values, [sign * value for value in values])
    assert (found.ratio, found.low, found.high) == pytest.approx((expected,) * 3)


def test_two_pairs_are_too_few():
    found = pairing_ratio([1.0, 2.0], [1.5, 2.2])
    assert math.isnan(found.ratio)
    assert found.why == "needs three pairs"


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_interval_covers_the_truth(correlation):
    """The true ratio is one minus the correlation of both rows."""
    random = np.random.default_rng(int(10 * correlation))
    values = random.normal(0, (1 - correlation) ** 0.5, (1500, 2, 4))
    values += random.normal(0, correlation**0.5, (1500, 1, 4))
    found = [pairing_ratio(row, baseline) for row, baseline in values.tolist()]
    assert np.mean([each.low <= 1 - correlation <= each.high for each in found]) == pytest.approx(
        0.95, abs=0.018
    )
