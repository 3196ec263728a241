"""Curves figure: a column over the epochs, all rows on one pair of axes or each row on its own."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ema_lab.reports.figures.draw import canvas, draw_legend, empty_figure, plain_axes
from ema_lab.reports.figures.fit import column, fitted, legend_of, line_inches, lines_of, small
from ema_lab.reports.figures.numbers import Curve
from ema_lab.reports.figures.style import LINES, USUAL, Form, Look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#999999"
PANEL_POINTS = 64  # least width of a facet
PANEL_INCHES = 0.8  # height of a facet


def draw_curves(
    curves: Sequence[Curve],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    label: str,
    form: Form = USUAL,
    *,
    is_difference: bool = False,
) -> "Figure":
    """Draw each row's mean over the epochs with its band; with a line at zero for differences."""
    with styled(form):
        legend = legend_of([labels[curve.row] for curve in curves], form)
        figure, axes = canvas(form, 2.05 + legend.inches, 1.2 + legend.inches)
        if is_difference:
            axes.axhline(0, color=GREY, linewidth=0.8)
        lines = lines_of_rows([looks[curve.row] for curve in curves])
        for curve, text, line in zip(curves, legend.texts, lines, strict=True):
            look = looks[curve.row]
            every = max(1, len(curve.epochs) // 6)
            axes.plot(
                curve.epochs, curve.mean, color=look.colour, marker=look.marker, linestyle=line,
                markevery=every, markersize=3, label=text,
            )  # fmt: skip
            _band(axes, curve, look.colour)
        axes.set(xlabel="Epoch", ylabel=label)
        _whole_epochs(axes, curves, 6)
        draw_legend(figure, legend)
    return figure


def lines_of_rows(looks: Sequence[Look]) -> list[str]:
    """Return a line style of each row: solid, unless an earlier row of the figure has the colour."""
    colours = [look.colour for look in looks]
    return [LINES[colours[:index].count(colour) % len(LINES)] for index, colour in enumerate(colours)]


def draw_facets(
    curves: Sequence[Curve],
    baseline: Curve | None,
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    label: str,
    form: Form = USUAL,
    *,
    is_difference: bool = False,
) -> "Figure":
    """Draw each row on axes of its own with equal limits, and on each the baseline in grey."""
    with styled(form):
        columns = max(1, min(len(curves), int((column() - 30) / PANEL_POINTS)))
        rows = math.ceil(len(curves) / columns)
        room = (column() - 40) / columns - 8
        names = [fitted(labels[curve.row], room) for curve in curves]
        tall = PANEL_INCHES + line_inches() * max(map(lines_of, names))
        figure = empty_figure(form, 0.4 + tall * rows)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for index, axes in enumerate(panels.flat):
            if index >= len(curves):
                axes.axis("off")
                continue
            curve = curves[index]
            if is_difference:
                axes.axhline(0, color=GREY, linewidth=0.8)
            if baseline is not None and curve.row != baseline.row:
                axes.plot(baseline.epochs, baseline.mean, color=GREY, linewidth=0.9)
            colour = looks[curve.row].colour
            axes.plot(curve.epochs, curve.mean, color=colour)
            _band(axes, curve, colour)
            axes.set_title(names[index], fontsize=small(), pad=2)
            _whole_epochs(axes, curves, 4)
            axes.locator_params(axis="y", nbins=4)
            axes.tick_params(labelbottom=index + columns >= len(curves))
            plain_axes(axes)
        figure.supxlabel("Epoch", fontsize=form.font)
        figure.supylabel(label, fontsize=form.font)
    return figure


def _whole_epochs(axes: "Axes", curves: Sequence[Curve], most: int) -> None:
    """Write whole numbers on the axis of epochs; of a lone epoch, which has no range, its own."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    epochs = {epoch for curve in curves for epoch in curve.epochs}
    lone = len(epochs) == 1
    axes.xaxis.set_major_locator(FixedLocator([*epochs]) if lone else MaxNLocator(nbins=most, integer=True))


def _band(axes: "Axes", curve: Curve, colour: str) -> None:
    axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
