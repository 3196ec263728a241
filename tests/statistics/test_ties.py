"""Ties: rounding must not decide which of two equal accuracies is higher."""

import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ema_lab.statistics.ties import difference, differences, merge_ties

HITS = st.tuples(*[st.integers(0, 10_000)] * 3)


def accuracy(hits):
    return statistics.fmean(100 * one / 10_000 for one in hits)


@given(HITS, HITS)
@example((4, 5, 6), (5, 5, 5))  # their means differ in the last bit
@example((22, 23, 24), (23, 23, 23))
def test_means_differ_exactly_where_the_images_do(mine, other):
    found = difference(accuracy(mine), accuracy(other))
    assert (found > 0) - (found < 0) == (sum(mine) > sum(other)) - (sum(mine) < sum(other))


@given(st.lists(HITS, max_size=20))
def test_values_are_the_same_number_exactly_where_the_images_are_the_same(every):
    found = merge_ties([accuracy(hits) for hits in every])
    assert [[a == b for a in found] for b in found] == [[sum(a) == sum(b) for a in every] for b in every]
    assert found == pytest.approx([accuracy(hits) for hits in every])


def test_values_of_every_size_stay_apart_whatever_stands_beside_them():
    values = [1e12, 0.5, -0.5, 0.0, 0.6, 3e-10, 1e-10]
    assert merge_ties(values) == values


@given(st.lists(st.tuples(HITS, HITS), max_size=20))
def test_differences_have_equal_sizes_exactly_where_the_images_do(pairs):
    found = differences(*([accuracy(pair[side]) for pair in pairs] for side in (0, 1)))
    images = [sum(a) - sum(b) for a, b in pairs]
    assert [[abs(a) == abs(b) for a in found] for b in found] == [
        [abs(a) == abs(b) for a in images] for b in images
    ]
    assert found == pytest.approx([image / 300 for image in images])
