"""Every kind of figure at one column's width: text that can be read, and bytes that no process changes."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ema_lab.reports.figures import draw
from ema_lab.reports.figures.gallery import Panel, draw_gallery
from ema_lab.reports.figures.numbers import Curve, Heatmap, Point, Ranks
from ema_lab.reports.figures.style import COLUMN_INCHES, look, save
from ema_lab.reports.statistics import PairedDifference

ROWS = ("none", "ema [groups=16]", "cross-spatial: own weights", "coordinate attention", "se", "eca", "cbam")
LOOKS = {row: look(place) for place, row in enumerate(ROWS)}
LABELS = dict.fromkeys(ROWS, "") | {row: row for row in ROWS}


def interval(place: int) -> PairedDifference:
    return PairedDifference(90 + place / 3, 89.5 + place / 3, 90.5 + place / 3, 3)


def tradeoff(cost: str, costs: Sequence[float]) -> Figure:
    points = [Point(row, x, interval(i)) for i, (row, x) in enumerate(zip(ROWS, costs, strict=False))]
    return draw.draw_tradeoff(points, LOOKS, LABELS, "top1", cost)


def curves() -> Figure:
    epochs, mean = tuple(range(1, 201)), tuple(100 / (1 + epoch) for epoch in range(200))
    low, high = tuple(value - 1 for value in mean), tuple(value + 1 for value in mean)
    found = [Curve(row, epochs, mean, low, high, 3) for row in ROWS]
    return draw.draw_curves(found, LOOKS, LABELS, "train_loss")


def heatmap() -> Figure:
    across = ("block_end", "stage_end", "after_conv1", "after_conv2", "after_depthwise")
    cells = tuple(tuple((80.0 + i + j, 3) if i != j else None for j in range(5)) for i in range(4))
    found = Heatmap(("4", "8", "16", "32"), across, cells, ())
    return draw.draw_heatmap(found, ("model.attention.groups", "model.placement.after"), "top1", 2)


def forest() -> Figure:
    found = [(row, interval(i - 270)) for i, row in enumerate(ROWS)]
    return draw.draw_forest(found, LOOKS, LABELS, "top1", "none")


def ranks() -> Figure:
    found = Ranks(ROWS, (1.5, 2.0, 2.1, 4.0, 5.0, 6.4, 7.0), 12, 1e-4, 2.6, ((0, 3), (2, 5), (4, 6)))
    return draw.draw_ranks(found, ROWS)


def gallery() -> Figure:
    maps = np.linspace(0.2, 1, 2 * 16).reshape(2, 4, 4)
    panels = [Panel("none", None, maps), Panel("ema [groups=16]", maps, maps), Panel("se", None, None)]
    return draw_gallery(np.zeros((2, 8, 8, 1)), ["#0: class 3", "#17: class 5"], panels)


FIGURES: dict[str, Callable[[], Figure]] = {
    "macs": lambda: tradeoff("macs", [31.1e6 + 0.8e6 * i for i in range(7)]),
    "large macs": lambda: tradeoff("macs", [4.09e9 + 3e8 * i for i in range(7)]),
    "parameters": lambda: tradeoff("parameters", [25_557_032 + 40_000 * i for i in range(7)]),
    "one point": lambda: tradeoff("latency", [12.5]),
    "curves": curves,
    "heatmap": heatmap,
    "forest": forest,
    "ranks": ranks,
    "gallery": gallery,
}


def texts(figure: Figure) -> list[Any]:
    """Return the texts that are drawn, with their places known."""
    FigureCanvasAgg(figure).draw()
    return [
        text
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
        if text.get_text().strip() and text.get_visible()
    ]


def boxes_of(labels: Sequence[Any], figure: Figure) -> list[tuple[str, Any]]:
    """Return what ticks inside of their axes say, and where; ticks outside are not drawn."""
    inside = figure.bbox.padded(1)
    boxes = [(label.get_text(), label.get_window_extent()) for label in labels if label.get_text()]
    return [(text, box) for text, box in boxes if inside.overlaps(box)]


@pytest.mark.parametrize("kind", FIGURES)
def test_fonts_are_of_six_points_or_more_at_one_columns_width(kind):
    figure = FIGURES[kind]()
    width = figure.get_figwidth()
    assert width == COLUMN_INCHES or kind == "gallery"
    scale = min(1.0, 2 * COLUMN_INCHES / width)  # a gallery may span both columns, never less than its text
    assert min(text.get_fontsize() for text in texts(figure)) * scale >= 6


@pytest.mark.parametrize("kind", FIGURES)
def test_no_tick_label_overlaps_another_and_no_text_leaves_the_figure(kind):
    figure = FIGURES[kind]()
    drawn = texts(figure)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            seen = [tick.label2 if tick.label2.get_visible() else tick.label1 for tick in ticks]
            boxes = boxes_of(seen, figure) if axes.axison else []
            rotated = any(label.get_rotation() for label in seen)
            clashes = [
                (a, b) for i, (a, at) in enumerate(boxes) for b, other in boxes[:i] if at.overlaps(other)
            ]
            assert rotated or not clashes
    own = [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    for text in own:
        if text in drawn:
            box = text.get_window_extent()
            assert figure.bbox.x0 - 1 <= box.x0
            assert box.x1 <= figure.bbox.x1 + 1
            assert figure.bbox.y0 - 1 <= box.y0
            assert box.y1 <= figure.bbox.y1 + 1


def test_a_forests_label_is_centred_on_its_axes():
    figure = forest()
    texts(figure)
    label, axes = figure.axes[0].xaxis.label.get_window_extent(), figure.axes[0].bbox
    assert (label.x0 + label.x1) / 2 == pytest.approx((axes.x0 + axes.x1) / 2, abs=1)


def write_all(folder: Path) -> None:
    """Write every figure below a folder."""
    for kind, make in FIGURES.items():
        save(make(), folder, kind)


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    code = "import sys, pathlib, test_figure_layout as t; t.write_all(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    for turn, zone in enumerate(("UTC", "Asia/Tokyo")):
        own = {"PYTHONPATH": paths, "PYTHONHASHSEED": str(turn), "TZ": zone}
        (tmp_path / zone).mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / zone)], env={**os.environ, **own}, check=True
        )
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / zone).iterdir()}
        for zone in ("UTC", "Asia/Tokyo")
    )
    assert len(first) == 3 * len(FIGURES)
    assert [name for name in first if first[name] != second[name]] == []
