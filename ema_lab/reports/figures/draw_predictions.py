"""Figures of stored predictions as matplotlib objects, drawn from numbers alone."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ema_lab.reports.figures.draw import bars_of, canvas, draw_legend, mark_of, plain_axes
from ema_lab.reports.figures.fit import column, fitted, legend_of, line_inches, lines_of, small, width_of
from ema_lab.reports.figures.predictions import Confusion, Dots, PrecisionCurve, matrix_names
from ema_lab.reports.figures.style import FONT_POINTS, USUAL, Form, Look, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = 0.3  # width limit of class names, as a share of the figure's
MOST_WRITTEN = 16  # classes of a confusion matrix up to which its cells have numbers
DOT_INCHES = 0.085  # height of one row's point within a group


def draw_precision(
    curves: Sequence[PrecisionCurve],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    iou: float,
    form: Form = USUAL,
) -> "Figure":
    """Draw each row's precision over recall with its band; the legend has the area below, in percent."""
    with styled(form):
        named = [f"{labels[curve.row]} ({curve.average.mean:.1f})" for curve in curves]
        legend = legend_of(named, form)
        figure, axes = canvas(form, 2.3 + legend.inches, 1.2 + legend.inches)
        for number, (curve, text) in enumerate(zip(curves, legend.texts, strict=True)):
            look = looks[curve.row]
            recalls = range(len(curve.mean))
            axes.plot(
                recalls, curve.mean, color=look.colour, marker=look.marker, linestyle=look.line,
                markevery=(2 + 3 * number % 20, 20), markersize=3, label=text,
            )  # fmt: skip
            axes.fill_between(recalls, curve.low, curve.high, color=look.colour, alpha=0.12, linewidth=0)
        axes.set(xlabel=f"Recall (%) at an IoU of {iou:g} or more", ylabel="Precision (%)")
        axes.set(xlim=(0, 100), ylim=(0, 102))
        draw_legend(figure, legend)
    return figure


def draw_confusion(confusion: Confusion, names: Sequence[str], form: Form = USUAL) -> "Figure":
    """Draw the matrix as colours: each row in percent of its boxes or images.

    `names`: display names of the classes. Cells have numbers up to `MOST_WRITTEN` classes; zeros stay empty.
    """
    down, across = matrix_names(confusion, names)
    shares = [list(row) for row in confusion.shares]
    if confusion.has_background:
        shares[-1][-1] = math.nan  # what nothing is and nothing found cannot be counted
    with styled(form):
        down = [fitted(name, NAME * column()) for name in down]
        beside = 40 if form.legend == "none" else 75
        room = column() - max(map(width_of, down)) - beside  # the colour bar, labels and margins
        is_upright = max(map(width_of, across)) > room / len(names) - 3
        above = min(NAME * column(), max(map(width_of, across))) / 72 if is_upright else line_inches()
        across = [fitted(name, NAME * column()) for name in across]
        tall = max(room / len(names) / 72, 0.09)
        figure, axes = canvas(form, 0.75 * form.font / FONT_POINTS + above + tall * len(names))
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        is_written = len(names) <= MOST_WRITTEN
        size = small() * (1 if len(names) < 9 else 5.5 / 7)
        for i, row in enumerate(shares if is_written else ()):
            for j, share in enumerate(row):
                if confusion.counts[i][j]:
                    axes.text(
                        j, i, "<1" if share < 0.5 else f"{share:.0f}", ha="center", va="center",
                        color="white" if share > 55 else "black", fontsize=size,
                    )  # fmt: skip
        if confusion.has_background:
            for line in (axes.axhline, axes.axvline):
                line(len(names) - 1.5, color="#777777", linewidth=0.8)
        axes.set_xticks(range(len(names)), across, rotation=90 if is_upright else 0)
        axes.set_yticks(range(len(names)), down)
        axes.set_facecolor("#DDDDDD")
        axes.tick_params(length=0, labelsize=small() * (1 if is_written else 5 / 7))
        axes.grid(False)
        axes.spines[:].set_visible(True)
        found = "Detected as" if confusion.has_background else "Predicted as"
        axes.set(ylabel="Truth", xlabel=found)
        if form.legend != "none":
            plain_axes(figure.colorbar(image, ax=axes, label="Share of the row (%)").ax)
    return figure


def draw_dots(
    dots: Dots, looks: Mapping[str, Look], labels: Mapping[str, str], header: str, form: Form = USUAL
) -> "Figure":
    """Draw a band for each group, the first on top, with one point and interval per row.

    Vertical positions are in inches.
    """
    rows = dots.rows
    with styled(form):
        names = [fitted(name, NAME * column()) for name in dots.groups]
        lines = max(map(lines_of, names))
        band = max(0.1 + DOT_INCHES * len(rows), 0.06 + line_inches() * lines)
        legend = legend_of([labels[row] for row in rows], form)
        below = fitted(header, column() - max(map(width_of, names)) - 24, form.font)
        figure, axes = canvas(form, 0.35 + band * len(names) + legend.inches + 0.13 * lines_of(below))
        step = (band - 0.1) / max(1, len(rows))
        for number, values in enumerate(dots.values):
            if number % 2:
                axes.axhspan(band * number, band * (number + 1), color="#F3F3F3", zorder=0)
            for place, row in enumerate(rows):
                if row in values:
                    value = values[row]
                    arms = bars_of(value)
                    axes.errorbar(
                        value.mean, band * number + 0.05 + step * (place + 0.5), xerr=arms,
                        **mark_of(looks[row], value), linestyle="none", capsize=1.5, elinewidth=0.8,
                        markersize=3.5, zorder=3,
                    )  # fmt: skip
        for row, text in zip(rows, legend.texts, strict=True):
            look = looks[row]
            axes.plot([], [], color=look.colour, marker=look.marker, linestyle="none", label=text)
        axes.set_yticks([band * (number + 0.5) for number in range(len(names))], names)
        axes.set_ylim(band * len(names), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(below)
        axes.locator_params(axis="x", nbins=6)
        draw_legend(figure, legend)
    return figure
