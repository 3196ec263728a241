"""Within-seed intervals: equal to paired intervals of two rows, blind to what seeds share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.statistics import paired_difference
from ema_lab.statistics.within import within_seeds

VALUES = st.lists(st.integers(0, 1000).map(lambda n: n / 10), min_size=3, max_size=3)


@given(VALUES, VALUES)
def test_of_two_rows_they_are_the_paired_interval_over_root_two(first, second):
    paired = paired_difference([a - b for a, b in zip(first, second, strict=True)])
    bars = within_seeds([dict(enumerate(first)), dict(enumerate(second))])
    assert bars is not None
    for bar in bars:
        assert bar.has_interval == paired.has_interval
        if bar.has_interval:
            assert bar.high - bar.low == pytest.approx((paired.high - paired.low) / math.sqrt(2))


@given(st.lists(VALUES, min_size=3, max_size=3), VALUES)
def test_what_a_seed_adds_to_all_rows_changes_no_bar(rows, shifts):
    def widths(added):
        bars = within_seeds([{i: v + added[i] for i, v in enumerate(row)} for row in rows])
        return [bar.high - bar.low if bar.has_interval else 0.0 for bar in bars or []]

    assert widths(shifts) == pytest.approx(widths([0.0] * 3), abs=1e-6)


def test_they_need_two_rows_with_the_same_seeds():
    row = {0: 1.0, 1: 2.0}
    assert within_seeds([row]) is None
    assert within_seeds([row, {0: 1.0, 2: 3.0}]) is None
    lone, *others = within_seeds([{0: 5.0}, row, {0: 1.0, 1: 3.0}]) or []
    assert (lone.mean, lone.has_interval, lone.count) == (5.0, False, 1)
    assert all(bar.has_interval for bar in others)
