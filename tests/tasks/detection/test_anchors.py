"""Anchors are fitted where the published ones cannot learn enough boxes."""

import numpy as np
import pytest

from ema_lab.models.yolov5 import ANCHOR_PIXELS
from ema_lab.tasks.detection.anchors import chosen_anchors, fitness, fits, fitted_anchors, possible_recall

PUBLISHED = np.array([ANCHOR_PIXELS[level] for level in (3, 4, 5)], dtype=float)


def sizes(low: float, high: float, count: int = 300) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, (count, 2))


def test_a_fit_is_the_smallest_ratio_of_sides():
    found = fits(np.array([[10.0, 40.0]]), np.array([[20.0, 40.0], [10.0, 10.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.25]])


def test_recall_counts_boxes_below_the_largest_ratio():
    anchors = np.array([[10.0, 10.0]])
    assert possible_recall(np.array([[39.0, 10], [40, 10], [41, 10]]), anchors) == pytest.approx(1 / 3)
    assert possible_recall(np.zeros((0, 2)), anchors) == 1


def test_published_anchors_stay_where_they_learn_enough():
    anchors, fitted = chosen_anchors(sizes(20, 200), PUBLISHED)
    assert not fitted
    assert anchors is PUBLISHED


def test_tiny_boxes_get_anchors_of_their_own():
    boxes = sizes(2.5, 5)
    anchors, fitted = chosen_anchors(boxes, PUBLISHED)
    assert fitted
    assert anchors.shape == PUBLISHED.shape
    assert possible_recall(boxes, anchors.reshape(-1, 2)) == 1
    assert (np.diff(anchors.reshape(-1, 2).prod(1)) >= 0).all()


def test_fitted_anchors_depend_on_the_boxes_alone_and_beat_k_means():
    boxes = sizes(5, 60)
    first, second = (fitted_anchors(boxes, 9) for _ in range(2))
    assert np.array_equal(first, second)
    assert fitness(boxes, first) > fitness(boxes, PUBLISHED.reshape(-1, 2))


def test_too_few_boxes_are_an_error():
    with pytest.raises(ValueError, match="9 anchors need as many different boxes, got 1"):
        fitted_anchors(np.full((20, 2), 10.0), 9)
