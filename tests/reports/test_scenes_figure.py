"""Gallery of detections: each kind has a look of its own, a legend, and the counts below its panel."""

import numpy as np
import pytest

from ema_lab.reports.figures.scenes import LOOKS, MOST_WRITTEN, Box, ScenePanel, counts_text, draw_scenes

IMAGES = [np.zeros((64, 64, 3)), np.ones((48, 64, 3))]
TRUTH = [[Box((4, 4, 20, 20), "cat", "truth")], [Box((4, 4, 9, 9), "", "ignored")]]
FOUND = [
    [
        Box((5, 5, 21, 21), "cat: 90", "hit"),
        Box((30, 30, 40, 40), "dog", "miss"),
        Box((50, 2, 60, 9), "dog: 40", "false alarm"),
    ],
    [],
]


def drawn(found=FOUND):
    panels = [ScenePanel("truth", TRUTH), ScenePanel("ema", found), ScenePanel("se", None)]
    return draw_scenes(IMAGES, ["#0", "#1"], panels)


def test_kinds_differ_in_colour_and_in_line_style_except_from_the_truth():
    assert len({colour for colour, _ in LOOKS.values()}) == len(LOOKS)
    detected = [LOOKS[kind][1] for kind in ("hit", "miss", "false alarm", "ignored")]
    assert len(set(detected)) == 4


def test_the_legend_has_the_kinds_that_are_drawn():
    [legend] = drawn().legends
    assert [text.get_text() for text in legend.get_texts()] == list(LOOKS)
    without = draw_scenes(IMAGES[:1], ["#0"], [ScenePanel("truth", TRUTH[:1])])
    assert [text.get_text() for text in without.legends[0].get_texts()] == ["truth"]


def test_boxes_lie_where_they_are_with_their_labels():
    axes = drawn().axes[2]
    [hit, miss, _] = axes.patches
    assert hit.get_bbox().extents.tolist() == [5, 5, 21, 21]
    assert hit.get_linestyle() == "-"
    assert miss.get_linestyle() != "-"
    assert [text.get_text() for text in axes.texts] == ["cat: 90", "dog", "dog: 40"]
    assert axes.get_xlabel() == "1 hit, 1 missed, 1 false"


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (TRUTH[0], "1 box"),
        (TRUTH[0] * 2, "2 boxes"),
        (TRUTH[1], "0 boxes"),
        (FOUND[0] * 2, "2 hits, 2 missed, 2 false"),
    ],
)
def test_counts(boxes, words):
    assert counts_text(boxes) == words


def test_a_dense_panel_has_no_labels_and_a_missing_run_says_so():
    many = [Box((n, n, n + 5, n + 5), "cat: 50", "hit") for n in range(MOST_WRITTEN + 1)]
    figure = drawn([many, []])
    assert not figure.axes[2].texts
    assert [text.get_text() for text in figure.axes[4].texts] == ["no run"]
