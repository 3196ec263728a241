"""Layout of every kind of figure at one column's width: readable text, and reproducible bytes."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ema_lab.errors import SpecError
from ema_lab.reports.figures import draw, draw_curves, draw_tradeoff
from ema_lab.reports.figures.gallery import Panel, draw_gallery
from ema_lab.reports.figures.numbers import Curve, Heatmap, Point
from ema_lab.reports.figures.percent import band_note, bar_note, cut_band, cut_bar
from ema_lab.reports.figures.ranks import Ranks
from ema_lab.reports.figures.style import COLUMN_INCHES, USUAL, Form, Look, look, save
from ema_lab.specs.metric import Metric
from ema_lab.statistics import PairedDifference

ROWS = ("none", "ema [groups=16]", "cross-spatial: own weights", "coordinate attention", "se", "eca", "cbam")
WORDS = "attention after the second convolution without normalisation of its groups"
LONG = tuple(f"{WORDS[7 * i : 7 * i + 10]} {WORDS}".strip()[: 40 + 2 * i - 4] + f" [{i}]" for i in range(10))
LONG += ("a_name_without_any_blank_" * 2 + "[groups=4,norm=no]", "W" * 52)


TOP1 = Metric("Top-1", "%", +1)


def interval(place: int) -> PairedDifference:
    """Return a mean with its interval; every fifth has none."""
    arm = math.nan if place % 5 == 4 else 0.5
    return PairedDifference(90 + place / 3, 90 + place / 3 - arm, 90 + place / 3 + arm, 3)


def looks(rows: Sequence[str]) -> tuple[dict[str, Look], dict[str, str]]:
    return {row: look(place) for place, row in enumerate(rows)}, {row: row for row in rows}


def tradeoff(cost: str, costs: Sequence[float], rows: Sequence[str] = ROWS, form: Form = USUAL) -> Figure:
    points = [Point(row, x, interval(i)) for i, (row, x) in enumerate(zip(rows, costs, strict=False))]
    return draw_tradeoff.draw_tradeoff(points, *looks(rows), TOP1, cost, form)


def curves(rows: Sequence[str] = ROWS) -> Figure:
    epochs, mean = tuple(range(1, 201)), tuple(100 / (1 + epoch) for epoch in range(200))
    low, high = tuple(value - 1 for value in mean), tuple(value + 1 for value in mean)
    found = [Curve(row, epochs, mean, low, high, (3,) * 200) for row in rows]
    return draw_curves.draw_curves(found, *looks(rows), "train_loss")


def heatmap(down: Sequence[str], across: Sequence[str]) -> Figure:
    cells = tuple(
        tuple((80.0 + i + j, 3) if i != j else None for j in range(len(across))) for i in range(len(down))
    )
    found = Heatmap(tuple(down), tuple(across), cells, ())
    return draw.draw_heatmap(found, ("Groups", "After"), TOP1, 2)


def forest(rows: Sequence[str] = ROWS, baseline: str = "none") -> Figure:
    found = [(row, interval(i - 270)) for i, row in enumerate(rows)]
    return draw.draw_forest(found, *looks(rows), TOP1, baseline)


def ranks(rows: Sequence[str] = ROWS) -> Figure:
    average = tuple(1.5 + 0.85 * place for place in range(len(rows)))
    found = Ranks(tuple(rows), average, len(rows), 12, 1e-4, 2.6, ((0, 3), (2, 5), (4, 6)))
    return draw.draw_ranks(found, rows)


def gallery(names: Sequence[str] = ("none", "ema [groups=16]", "se")) -> Figure:
    maps = np.linspace(0.2, 1, 2 * 16).reshape(2, 4, 4)
    without = (Panel(names[0], None, maps), Panel(names[1], None, None))
    panels = [*without, *(Panel(name, maps, maps) for name in names[2:])]
    return draw_gallery(np.zeros((2, 8, 8, 1)), ["#0: class 3", "#17: class 5"], panels)


PLACES = ("block_end", "stage_end", "after_conv1", "after_conv2", "after_depthwise")
FIGURES: dict[str, Callable[[], Figure]] = {
    "macs": lambda: tradeoff("macs", [31.1e6 + 0.8e6 * i for i in range(7)]),
    "large macs": lambda: tradeoff("macs", [4.09e9 + 3e8 * i for i in range(7)]),
    "parameters": lambda: tradeoff("parameters", [25_557_032 + 40_000 * i for i in range(7)]),
    "one point": lambda: tradeoff("latency", [12.5]),
    "curves": curves,
    "heatmap": lambda: heatmap(("4", "8", "16", "32"), PLACES),
    "forest": forest,
    "ranks": ranks,
    "gallery": gallery,
    "long tradeoff": lambda: tradeoff("macs", [31.1e6 + 0.8e6 * i for i in range(12)], LONG),
    "four long": lambda: tradeoff("macs", [31.1e6 + 0.8e6 * i for i in range(4)], LONG),
    "long curves": lambda: curves(LONG),
    "long down": lambda: heatmap(LONG, ("4", "8", "16", "32")),
    "long across": lambda: heatmap(("4", "8", "16", "32"), LONG),
    "long both": lambda: heatmap(LONG, LONG),
    "long forest": lambda: forest(LONG, LONG[9]),
    "wide forest": lambda: forest(ROWS, LONG[11]),
    "long ranks": lambda: ranks(LONG),
    "long gallery": lambda: gallery(LONG),
}
ONE_OF_EACH = ("macs", "curves", "heatmap", "forest", "ranks", "gallery")


def texts(figure: Figure) -> list[Any]:
    """Return the drawn texts, with their positions computed."""
    FigureCanvasAgg(figure).draw()
    return [
        text
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
        if text.get_text().strip() and text.get_visible()
    ]


def ticks_of(axes: Axes) -> list[list[Any]]:
    """Return the visible tick labels of both axes: those within the limits."""
    found = []
    for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        labels = [tick.label2 if tick.label2.get_visible() else tick.label1 for tick in ticks]
        found.append([label for label in labels if label.get_text()])
    return found


def clashes(labels: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the pairs of texts whose boxes overlap."""
    boxes = [(label.get_text(), label.get_window_extent()) for label in labels]
    return [(a, b) for i, (a, at) in enumerate(boxes) for b, other in boxes[:i] if at.overlaps(other)]


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_can_be_read_at_one_columns_width(kind):
    """Fonts have six points or more, no text overlaps another or leaves the figure, and data have room."""
    figure = FIGURES[kind]()
    drawn = texts(figure)
    width = figure.get_figwidth()
    assert width == COLUMN_INCHES or "gallery" in kind
    scale = min(1.0, 2 * COLUMN_INCHES / width)  # a gallery may span both columns, never less than its text
    assert min(text.get_fontsize() for text in drawn) * scale >= 6
    if "gallery" not in kind:
        assert figure.axes[0].bbox.width > 0.25 * figure.bbox.width
        assert figure.axes[0].bbox.height > 0.18 * figure.bbox.height
    assert_no_overlap(figure, drawn)


def assert_no_overlap(figure: Figure, drawn: Sequence[Any]) -> None:
    groups = [labels for axes in figure.axes for labels in ticks_of(axes)]
    groups += [list(axes.texts) for axes in figure.axes]
    groups += [list(legend.get_texts()) for legend in figure.legends]
    assert [pair for group in groups for pair in clashes(group)] == []
    own = [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label, axes.title)]
    page = figure.bbox
    for text in [*itertools.chain(*groups), *(text for text in own if text in drawn)]:
        box = text.get_window_extent()
        inside = (page.x0 - 1 <= box.x0, box.x1 <= page.x1 + 1, page.y0 - 1 <= box.y0, box.y1 <= page.y1 + 1)
        assert all(inside), (text.get_text(), box)
    for legend in figure.legends:
        assert page.x0 - 1 <= legend.get_window_extent().x0
        assert legend.get_window_extent().x1 <= page.x1 + 1


def test_a_forests_label_is_centred_on_its_axes():
    figure = forest()
    texts(figure)
    label, axes = figure.axes[0].xaxis.label.get_window_extent(), figure.axes[0].bbox
    assert (label.x0 + label.x1) / 2 == pytest.approx((axes.x0 + axes.x1) / 2, abs=1)


def write_all(folder: Path) -> None:
    """Write a figure of each kind to a folder."""
    for kind in ONE_OF_EACH:
        save(FIGURES[kind](), folder, kind)


MANY = tuple(f"{name} [reduction={r}]" for name in ("se", "cbam", "ema", "ca", "gam") for r in range(1, 6))
CLUSTERS: dict[str, list[float]] = {
    "spread": [2.5e6 + 6e4 * i for i in range(25)],
    "cluster": [2.54e6 + 2e3 * i for i in range(23)] + [3.3e6, 4e6],
    "equal": [2.5e6] * 25,
}


@pytest.mark.parametrize("kind", CLUSTERS)
@pytest.mark.parametrize("rows", [3, 8, 25])
def test_the_labels_of_a_tradeoff_do_not_overlap(kind, rows):
    figure = tradeoff("macs", CLUSTERS[kind][-rows:], MANY[:rows])
    drawn, axes = texts(figure), figure.axes[0]
    assert_no_overlap(figure, drawn)
    labels = [text.get_text() for text in axes.texts]
    listed = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    if listed:
        assert labels == [str(number) for number in range(1, rows + 1)]
        named = [" ".join(text.split()) for text in listed]
        assert named == [*(f"{i} {name}" for i, name in enumerate(MANY[:rows], start=1)), "Pareto front"]
    else:
        assert labels == list(MANY[:rows])
    axes_box = axes.get_window_extent()
    assert all(axes_box.contains(*text.get_window_extent().min) for text in axes.texts)


def test_few_labels_are_names_and_many_in_a_cluster_are_numbers():
    assert not tradeoff("macs", CLUSTERS["spread"], MANY[:3]).legends
    points = [Point(row, 2.5e6, interval(0)) for row in MANY]
    figure = draw_tradeoff.draw_tradeoff(points, *looks(MANY), TOP1, "macs")
    assert figure.legends
    assert [text.get_text() for text in figure.axes[0].texts] == [str(number) for number in range(1, 26)]
    assert_no_overlap(figure, texts(figure))


@pytest.mark.parametrize("form", [Form(6.9), Form(6.9, 5.0), Form(3.3, font=9.5), Form(3.3, legend="below")])
def test_a_figure_of_another_form_can_be_read_too(form):
    drawings = [
        tradeoff("macs", CLUSTERS["spread"][:8], MANY[:8], form),
        draw.draw_forest(
            [(row, interval(i)) for i, row in enumerate(ROWS)], *looks(ROWS), TOP1, "none", form
        ),
    ]
    for figure in drawings:
        assert figure.get_figwidth() == form.width
        assert form.height in {None, figure.get_figheight()}
        assert_no_overlap(figure, texts(figure))
        assert figure.axes[0].xaxis.label.get_fontsize() == form.font


def test_a_height_that_leaves_no_room_is_refused():
    rule = "size: this figure needs a height of .* inches at least, got 2; leave the height out"
    found = [(row, interval(0)) for row in MANY]
    with pytest.raises(SpecError, match=rule):
        draw.draw_forest(found, *looks(MANY), TOP1, "none", Form(3.3, 2.0))


@pytest.mark.parametrize("rows", [3, 8, 25])
def test_facets_can_be_read(rows):
    means = tuple(100 / (1 + epoch) for epoch in range(20))
    found = [Curve(row, tuple(range(1, 21)), means, means, means, (3,) * 20) for row in MANY[:rows]]
    figure = draw_curves.draw_facets(found, found[0], *looks(MANY[:rows]), "Train loss (nats)")
    drawn = texts(figure)
    titles = [axes.title for axes in figure.axes if axes.title in drawn]
    assert len(titles) == rows
    ticks = [label for axes in figure.axes for labels in ticks_of(axes)[:1] for label in labels]
    assert clashes([*titles, *(label for label in ticks if label in drawn and label.get_visible())]) == []


def test_a_line_is_dashed_only_beside_another_of_its_colour():
    black, blue = look(0), look(1)
    assert draw_curves.lines_of_rows([Look("a", "o", "--"), blue, black]) == ["-", "-", "-"]
    assert draw_curves.lines_of_rows([blue, black, blue]) == ["-", "-", "--"]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    """This process and another, in a time zone and with a seed of hashes that this one has not."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write_all(here)
    code = "import sys, pathlib, test_figure_layout as t; t.write_all(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    own = {"PYTHONPATH": paths, "PYTHONHASHSEED": seed, "TZ": "Pacific/Chatham"}
    subprocess.run([sys.executable, "-c", code, str(there)], env={**os.environ, **own}, check=True)
    first, second = ({path.name: path.read_bytes() for path in one.iterdir()} for one in (here, there))
    assert len(first) == 3 * len(ONE_OF_EACH)
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_axis_of_percentages_ends_at_0_and_100_and_the_caption_names_cut_bars():
    values = [PairedDifference(1.0, -9.0, 11.0, 3), PairedDifference(98.0, 90.0, 106.0, 3)]
    points = [Point(row, x, value) for row, x, value in zip("ab", (1e6, 2e6), values, strict=True)]
    axes = draw_tradeoff.draw_tradeoff(points, *looks("ab"), TOP1, "macs").axes[0]
    low, high = axes.get_ylim()
    assert -5 < low < 0
    assert 100 < high < 105
    other = draw_tradeoff.draw_tradeoff(points, *looks("ab"), replace(TOP1, unit=""), "macs").axes[0]
    assert other.get_ylim()[1] > 106
    assert bar_note(values) == " Bars that pass 0 or 100 % are cut off there."
    assert bar_note(values[1:]) == " Bars that pass 100 % are cut off there."
    assert bar_note([PairedDifference(50.0, 40.0, 60.0, 3)]) == ""
    assert [cut_bar(value) for value in values] == [
        PairedDifference(1.0, 0.0, 11.0, 3),
        PairedDifference(98.0, 90.0, 100.0, 3),
    ]
    assert not cut_bar(PairedDifference(98.0, math.nan, math.nan, 1)).has_interval


def test_a_band_of_percentages_ends_at_0_and_100_and_the_caption_says_so():
    curve = Curve(
        "a", (1, 2, 3), (50.0, 99.0, 99.0), (-1.0, 97.0, math.nan), (101.0, 101.0, math.nan), (2, 2, 1)
    )
    assert band_note([curve]) == " Bands that pass 0 or 100 % are cut off there."
    cut = cut_band(curve)
    assert (cut.low[:2], cut.high[:2]) == ((0.0, 97.0), (100.0, 100.0))
    assert math.isnan(cut.low[2])
    assert math.isnan(cut.high[2])
    assert band_note([cut]) == ""


@pytest.mark.parametrize("facets", [False, True])
def test_a_lone_epoch_has_its_whole_number_on_the_axis_alone(facets):
    curve = Curve("a", (1,), (50.0,), (49.0,), (51.0,), (2,))
    own, names = looks("a")
    figure = (
        draw_curves.draw_facets([curve], None, own, names, "Loss")
        if facets
        else draw_curves.draw_curves([curve], own, names, "Loss")
    )
    assert [*figure.axes[0].get_xticks()] == [1]
