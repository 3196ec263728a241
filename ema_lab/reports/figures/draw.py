"""Figures as matplotlib objects, drawn from numbers alone."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ema_lab.reports.figures.fit import COLUMN, LINE_INCHES, Legend, fitted, legend_of, lines_of, width_of
from ema_lab.reports.figures.numbers import Curve, Heatmap, Point, front_of
from ema_lab.reports.figures.ranks import Ranks
from ema_lab.reports.figures.style import COLUMN_INCHES, Look, styled
from ema_lab.specs.metric import Metric
from ema_lab.statistics import PairedDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: Mapping[str, tuple[str, float]] = {
    "macs": ("Multiply-adds per image (M)", 1e6),
    "parameters": ("Parameters (k)", 1e3),
    "latency": ("Latency (ms per batch)", 1.0),
}
NAME = 0.42 * COLUMN  # width limit of names beside a forest or a heat map, in points
RANKED = 0.3 * COLUMN  # width limit of names on each side of the rank axis, which keeps the other 40 %
FRONT = "Pareto front"


def canvas(height: float) -> tuple["Figure", "Axes"]:
    """Return a figure of one column's width, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained", facecolor="white")
    return figure, figure.add_subplot()


def draw_tradeoff(
    points: Sequence[Point], looks: Mapping[str, Look], labels: Mapping[str, str], metric: Metric, cost: str
) -> "Figure":
    """Draw value against cost, with interval bars and the Pareto front as a step line."""
    name, scale = COSTS[cost]
    with styled():
        legend = legend_of([FRONT, *(labels[point.row] for point in points)])
        figure, axes = canvas(2.25 + legend.inches)
        for point, text in zip(points, legend.texts[1:], strict=True):
            look, value = looks[point.row], point.value
            axes.errorbar(
                point.cost / scale, value.mean, yerr=bars_of(value), **mark_of(look, value),
                linestyle="none", capsize=2, elinewidth=0.8, label=text, zorder=3,
            )  # fmt: skip
        front = front_of(points, metric.sign)
        corners = [(points[i].cost / scale, points[i].value.mean) for i in front]
        axes.set_xlim(axes.get_xlim())
        corners.append((axes.get_xlim()[1], corners[-1][1]))  # to the right edge: more cost gains nothing
        axes.plot(
            *zip(*corners, strict=True),
            drawstyle="steps-post", color="#777777", linestyle="--", linewidth=0.9,
            label=FRONT, zorder=2,
        )  # fmt: skip
        axes.set(xlabel=name, ylabel=metric.header)
        axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10], min_n_ticks=3)
        draw_legend(figure, legend)
    return figure


def bars_of(value: PairedDifference) -> list[list[float]] | None:
    """Return the lengths of an interval's two arms; None without an interval."""
    return [[value.mean - value.low], [value.high - value.mean]] if value.has_interval else None


def mark_of(look: Look, value: PairedDifference) -> dict[str, Any]:
    """Return a point's style: hollow without an interval, so that the point does not seem exact."""
    inside = look.colour if value.has_interval else "white"
    return {"color": look.colour, "marker": look.marker, "markerfacecolor": inside}


def draw_curves(
    curves: Sequence[Curve], looks: Mapping[str, Look], labels: Mapping[str, str], label: str
) -> "Figure":
    """Draw each row's mean over the epochs with its band."""
    from matplotlib.ticker import MaxNLocator

    with styled():
        legend = legend_of([labels[curve.row] for curve in curves])
        figure, axes = canvas(2.05 + legend.inches)
        for curve, text in zip(curves, legend.texts, strict=True):
            look = looks[curve.row]
            every = max(1, len(curve.epochs) // 6)
            axes.plot(
                curve.epochs, curve.mean, color=look.colour, marker=look.marker, linestyle=look.line,
                markevery=every, markersize=3, label=text,
            )  # fmt: skip
            axes.fill_between(curve.epochs, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="Epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        draw_legend(figure, legend)
    return figure


def draw_heatmap(heatmap: Heatmap, factors: tuple[str, str], metric: Metric, digits: int) -> "Figure":
    """Draw the means as colours and numbers; a cell without a run is grey and says n/a.

    `factors`: labels of the axes, down and across.
    """
    with styled():
        down = [fitted(name, NAME / 1.5) for name in heatmap.down]
        room = COLUMN - max(map(width_of, down)) - 85  # minus the colour bar, labels and margins
        across, is_upright = _column_names(heatmap.across, room / len(heatmap.across))
        above = max(map(width_of, across)) / 72 if is_upright else LINE_INCHES * max(map(lines_of, across))
        tall = max(0.3, LINE_INCHES * max(map(lines_of, down)) + 0.06)
        figure, axes = canvas(0.75 + above + tall * len(down))
        values = [[cell[0] if cell else math.nan for cell in row] for row in heatmap.cells]
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        means = [cell[0] for row in heatmap.cells for cell in row if cell]
        middle = (min(means) + max(means)) / 2
        texts = [[f"{cell[0]:.{digits}f}" if cell else "n/a" for cell in row] for row in heatmap.cells]
        is_wide = max(width_of(text) for row in texts for text in row) > room / len(across)
        for i, row in enumerate(heatmap.cells):
            for j, cell in enumerate(row):
                colour = "white" if cell is not None and cell[0] < middle else "black"
                axes.text(
                    j, i, texts[i][j], ha="center", va="center", color=colour, fontsize=7,
                    rotation=90 if is_wide else 0,
                )  # fmt: skip
        axes.set_facecolor("#EEEEEE")
        axes.set_xticks(range(len(across)), across, rotation=90 if is_upright else 0)
        axes.set_yticks(range(len(down)), down)
        axes.grid(False)
        axes.set(ylabel=factors[0], xlabel=factors[1])
        figure.colorbar(image, ax=axes, label=metric.header)
    return figure


def _column_names(names: Sequence[str], points: float) -> tuple[list[str], bool]:
    """Wrap column names to a width in points; return them, and whether they must be upright to fit."""
    across = [fitted(name, points - 4) for name in names]
    parts = [word for name in names for word in name.split()]
    if max(map(lines_of, across)) <= 3 and max(map(width_of, parts), default=0) <= points - 4:
        return across, False
    lines = max(1, int(points / (72 * LINE_INCHES)))
    return [fitted(name, max(NAME, 1.3 * width_of(name) / lines)) for name in names], True


def draw_forest(
    differences: Sequence[tuple[str, PairedDifference]],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    metric: Metric,
    baseline: str,
) -> "Figure":
    """Draw each row's mean difference and interval beside a line at zero, the first row on top.

    `baseline`: its display name. Vertical positions are in inches.
    """
    with styled():
        names = [fitted(labels[row], NAME) for row, _ in differences]
        unit = f" ({metric.unit_of_differences})" if metric.unit else ""
        text = f"Δ {metric.label} vs {baseline}{unit}"
        below = fitted(text, COLUMN - max(map(width_of, names)) - 24, 7.5)
        ends = list(itertools.accumulate(0.12 + LINE_INCHES * lines_of(name) for name in names))
        middles = [(start + end) / 2 for start, end in zip([0.0, *ends], ends, strict=False)]
        figure, axes = canvas(0.32 + ends[-1] + 0.13 * lines_of(below))
        axes.axvline(0, color="#777777", linewidth=0.8)
        for middle, (row, value) in zip(middles, differences, strict=True):
            axes.plot(value.mean, middle, linestyle="none", **mark_of(looks[row], value))
            if value.has_interval:  # drawn around its middle: an always-valid interval may exclude the mean
                axes.errorbar(
                    (value.low + value.high) / 2, middle, xerr=(value.high - value.low) / 2,
                    fmt="none", ecolor=looks[row].colour, capsize=2, elinewidth=0.9,
                )  # fmt: skip
        axes.set_yticks(middles, names)
        axes.set_ylim(ends[-1], 0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(below)
        axes.locator_params(axis="x", nbins=5)
    return figure


def draw_ranks(ranks: Ranks, labels: Sequence[str]) -> "Figure":
    """Draw the methods at their average ranks, and bars over those that the test cannot distinguish.

    The better half has its names on the left, the other half on the right. Vertical positions are in inches.
    """
    count, left = len(ranks.methods), (len(ranks.methods) + 1) // 2
    bottom, top = -0.14 - 0.08 * len(ranks.groups), 0.24 + (0.22 if ranks.critical is not None else 0)
    with styled():
        named = zip(labels, ranks.average, strict=True)
        texts = [fitted(f"{label} ({rank:.2f})", RANKED) for label, rank in named]
        line = 0.06 + LINE_INCHES * max(map(lines_of, texts))
        figure, axes = canvas(top - bottom + line * (left - 0.5) + 0.1)
        axes.set(xlim=(1, count), ylim=(bottom - line * (left - 0.5), top))
        axes.axis("off")
        axes.hlines(0, 1, count, color="black", linewidth=0.8, clip_on=False)
        for tick in range(1, count + 1):
            axes.vlines(tick, 0, 0.05, color="black", linewidth=0.8, clip_on=False)
            if count < 10 or tick % 2:
                axes.text(tick, 0.07, str(tick), ha="center", va="bottom", fontsize=7)
        for index, (text, rank) in enumerate(zip(texts, ranks.average, strict=True)):
            is_left = index < left
            height = bottom - line * (index if is_left else count - 1 - index)
            end, side = (1, "right") if is_left else (count, "left")
            axes.plot([rank, rank, end], [0, height, height], color="#555555", linewidth=0.7, clip_on=False)
            axes.annotate(
                text, (end, height), (-3 if is_left else 3, 0),
                textcoords="offset points", ha=side, va="center", fontsize=7,
            )  # fmt: skip
        for index, (first, last) in enumerate(ranks.groups):
            ends = (ranks.average[first] - 0.04, ranks.average[last] + 0.04)
            axes.hlines(-0.09 - 0.08 * index, *ends, color="black", linewidth=2.5, clip_on=False)
        if ranks.critical is not None:
            _draw_critical(axes, ranks.critical, top - 0.06)
    return figure


def _draw_critical(axes: "Axes", critical: float, height: float) -> None:
    axes.errorbar(1 + critical / 2, height, xerr=critical / 2, color="black", capsize=2, clip_on=False)
    axes.annotate(
        f"CD = {critical:.2f}", (1 + critical, height), (4, 0),
        textcoords="offset points", va="center", fontsize=7,
    )  # fmt: skip


def draw_legend(figure: "Figure", legend: Legend) -> None:
    """Draw a fitted legend below the axes."""
    figure.legend(loc="outside lower center", ncol=legend.columns, columnspacing=1, handletextpad=0.4)


def factor_label(factor: str) -> str:
    """Return the label of a dotted key, such as `Groups` for `model.attention.groups`."""
    return factor.rpartition(".")[2].replace("_", " ").capitalize()
