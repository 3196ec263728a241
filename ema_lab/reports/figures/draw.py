"""The figures as matplotlib objects, from numbers alone."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ema_lab.reports.figures.numbers import Curve, Heatmap, Point, Ranks, pareto_front
from ema_lab.reports.figures.style import COLUMN_INCHES, Look, styled
from ema_lab.reports.statistics import PairedDifference
from ema_lab.specs.metric import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: Mapping[str, tuple[str, float]] = {
    "macs": ("Multiply-adds per image (M)", 1e6),
    "parameters": ("Parameters (k)", 1e3),
    "latency": ("Latency (ms per batch)", 1.0),
}
RANK_CHARACTERS = 18  # of a line beside the axis of ranks, so that the axis keeps two fifths of the column
UNITS: Mapping[str, str] = {"loss": "nats", "top1": "%", "top5": "%", "seconds": "s"}


def metric_label(metric: str) -> str:
    """Return `Top-1 (%)`."""
    return f"{METRICS[metric].label} ({METRICS[metric].unit})"


def column_label(column: str) -> str:
    """Return `Train loss (nats)` for a column of curve.csv."""
    if column == "lr":
        return "Learning rate"
    unit = UNITS.get(column.rpartition("_")[2])
    words = column.replace("_", " ").capitalize().replace("top", "top-")
    return f"{words} ({unit})" if unit else words


def canvas(height: float) -> tuple["Figure", "Axes"]:
    """Return a figure of one column's width, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained", facecolor="white")
    return figure, figure.add_subplot()


def draw_tradeoff(
    points: Sequence[Point], looks: Mapping[str, Look], labels: Mapping[str, str], metric: str, cost: str
) -> "Figure":
    """Draw value against cost, a bar for each interval, and the Pareto front as a line of steps."""
    name, scale = COSTS[cost]
    with styled():
        figure, axes = canvas(2.4 + _legend_inches(len(points)))
        for point in points:
            look, value = looks[point.row], point.value
            error = None if math.isnan(value.low) else [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(
                point.cost / scale, value.mean, yerr=error, color=look.colour, marker=look.marker,
                linestyle="none", capsize=2, elinewidth=0.8, label=labels[point.row], zorder=3,
            )  # fmt: skip
        front = pareto_front([(p.cost, p.value.mean) for p in points], METRICS[metric].sign)
        corners = [(points[i].cost / scale, points[i].value.mean) for i in front]
        axes.set_xlim(axes.get_xlim())
        corners.append((axes.get_xlim()[1], corners[-1][1]))  # what costs more is no better
        axes.plot(
            *zip(*corners, strict=True),
            drawstyle="steps-post", color="#777777", linestyle="--", linewidth=0.9,
            label="Pareto front", zorder=2,
        )  # fmt: skip
        axes.set(xlabel=name, ylabel=metric_label(metric))
        axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10], min_n_ticks=3)
        _legend(figure)
    return figure


def draw_curves(
    curves: Sequence[Curve], looks: Mapping[str, Look], labels: Mapping[str, str], column: str
) -> "Figure":
    """Draw each row's mean over the epochs with its band."""
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure, axes = canvas(2.2 + _legend_inches(len(curves)))
        for curve in curves:
            look = looks[curve.row]
            every = max(1, len(curve.epochs) // 6)
            axes.plot(
                curve.epochs, curve.mean, color=look.colour, marker=look.marker, markevery=every,
                markersize=3, label=labels[curve.row],
            )  # fmt: skip
            axes.fill_between(curve.epochs, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="Epoch", ylabel=column_label(column))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(figure)
    return figure


def draw_heatmap(heatmap: Heatmap, factors: tuple[str, str], metric: str, digits: int) -> "Figure":
    """Draw the means as colours and numbers; a cell without a run is hatched and says n/a."""
    with styled():
        figure, axes = canvas(0.9 + 0.3 * len(heatmap.down))
        values = [[cell[0] if cell else math.nan for cell in row] for row in heatmap.cells]
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        means = [cell[0] for row in heatmap.cells for cell in row if cell]
        middle = (min(means) + max(means)) / 2
        for i, row in enumerate(heatmap.cells):
            for j, cell in enumerate(row):
                is_dark = cell is not None and cell[0] < middle
                text = f"{cell[0]:.{digits}f}" if cell else "n/a"
                colour = "white" if is_dark else "black"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
        axes.set_facecolor("#EEEEEE")
        axes.set_xticks(range(len(heatmap.across)), heatmap.across)
        axes.set_yticks(range(len(heatmap.down)), heatmap.down)
        if max(map(len, heatmap.across)) * len(heatmap.across) > 34:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.grid(False)
        axes.set(ylabel=_factor_label(factors[0]), xlabel=_factor_label(factors[1]))
        figure.colorbar(image, ax=axes, label=metric_label(metric))
    return figure


def draw_forest(
    differences: Sequence[tuple[str, PairedDifference]],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    metric: str,
    baseline: str,
) -> "Figure":
    """Draw each row's mean difference and interval, the first row on top, beside a line at zero."""
    with styled():
        figure, axes = canvas(0.7 + 0.24 * len(differences))
        axes.axvline(0, color="#777777", linewidth=0.8)
        for place, (row, value) in enumerate(differences):
            error = None if math.isnan(value.low) else [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(
                value.mean, place, xerr=error, color=looks[row].colour, marker=looks[row].marker,
                capsize=2, elinewidth=0.9,
            )  # fmt: skip
        axes.set_yticks(range(len(differences)), [labels[row] for row, _ in differences])
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        unit = "points" if METRICS[metric].unit == "%" else METRICS[metric].unit
        axes.set_xlabel(f"Δ {METRICS[metric].label} vs {labels.get(baseline, baseline)} ({unit})")
    return figure


def draw_ranks(ranks: Ranks, labels: Sequence[str]) -> "Figure":
    """Draw the methods at their average ranks, and a bar over those that the test cannot tell apart.

    The better half is named on the left, the other on the right; vertical positions are in inches.
    """
    count, left = len(ranks.methods), (len(ranks.methods) + 1) // 2
    texts = [
        textwrap.fill(f"{label} ({rank:.2f})", RANK_CHARACTERS)
        for label, rank in zip(labels, ranks.average, strict=True)
    ]
    bottom, line = -0.14 - 0.08 * len(ranks.groups), 0.06 + 0.11 * max(text.count("\n") + 1 for text in texts)
    top = 0.24 + (0.22 if ranks.critical is not None else 0)
    with styled():
        figure, axes = canvas(top - bottom + line * (left - 0.5) + 0.1)
        axes.set(xlim=(1, count), ylim=(bottom - line * (left - 0.5), top))
        axes.axis("off")
        axes.hlines(0, 1, count, color="black", linewidth=0.8, clip_on=False)
        for tick in range(1, count + 1):
            axes.vlines(tick, 0, 0.05, color="black", linewidth=0.8, clip_on=False)
            axes.text(tick, 0.07, str(tick), ha="center", va="bottom", fontsize=7)
        for place, (text, rank) in enumerate(zip(texts, ranks.average, strict=True)):
            is_left = place < left
            height = bottom - line * (place if is_left else count - 1 - place)
            end, side = (1, "right") if is_left else (count, "left")
            axes.plot([rank, rank, end], [0, height, height], color="#555555", linewidth=0.7, clip_on=False)
            axes.annotate(
                text, (end, height), (-3 if is_left else 3, 0),
                textcoords="offset points", ha=side, va="center", fontsize=7,
            )  # fmt: skip
        for place, (first, last) in enumerate(ranks.groups):
            ends = (ranks.average[first] - 0.04, ranks.average[last] + 0.04)
            axes.hlines(-0.09 - 0.08 * place, *ends, color="black", linewidth=2.5, clip_on=False)
        if ranks.critical is not None:
            axes.errorbar(
                1 + ranks.critical / 2, top - 0.06, xerr=ranks.critical / 2, color="black", capsize=2,
                clip_on=False,
            )  # fmt: skip
            axes.annotate(
                f"CD = {ranks.critical:.2f}", (1 + ranks.critical, top - 0.06), (4, 0),
                textcoords="offset points", va="center", fontsize=7,
            )  # fmt: skip
    return figure


def _legend_inches(entries: int) -> float:
    return 0.15 * math.ceil((entries + 1) / 2)


def _legend(figure: "Figure") -> None:
    figure.legend(loc="outside lower center", ncol=2, columnspacing=1, handletextpad=0.4)


def _factor_label(factor: str) -> str:
    return factor.rpartition(".")[2].replace("_", " ").capitalize()
