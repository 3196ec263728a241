"""Figures as matplotlib objects, drawn from numbers alone."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ema_lab.errors import SpecError
from ema_lab.reports.figures.fit import Legend, column, fitted, line_inches, lines_of, small, width_of
from ema_lab.reports.figures.numbers import Heatmap
from ema_lab.reports.figures.ranks import Ranks
from ema_lab.reports.figures.style import FONT_POINTS, USUAL, Form, Look, styled
from ema_lab.specs.metric import Metric
from ema_lab.statistics import PairedDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = 0.42  # width limit of names beside a forest or a heat map, as a share of the figure's
RANKED = 0.3  # width limit of names on each side of the rank axis, which keeps the other 40 %


def empty_figure(form: Form, height: float, least: float | None = None) -> "Figure":
    """Return an empty figure of a form.

    Args:
        form: The width; also the height, if it has one.
        height: Height in inches otherwise.
        least: Smallest height at which texts do not overlap; `height` by default.

    Raises:
        SpecError: If the form's height is smaller.
    """
    from matplotlib.figure import Figure

    least = height if least is None else least
    if form.height is not None and form.height < least - 0.005:
        rule = f"this figure needs a height of {math.ceil(100 * least) / 100:g} inches at least"
        raise SpecError(f"size: {rule}, got {form.height:g}; leave the height out to get what is needed")
    size = (form.width, height if form.height is None else form.height)
    return Figure(figsize=size, layout="constrained", facecolor="white")


def canvas(form: Form, height: float, least: float | None = None) -> tuple["Figure", "Axes"]:
    """Return a figure of a form, and its axes; see `empty_figure`."""
    figure = empty_figure(form, height, least)
    return figure, plain_axes(figure.add_subplot())


def plain_axes(axes: "Axes") -> "Axes":
    """Fix the size of tick labels, because matplotlib would otherwise use the style at the time of saving."""
    axes.tick_params(labelsize=small())
    return axes


def bars_of(value: PairedDifference) -> list[list[float]] | None:
    """Return the lengths of an interval's two arms; None without an interval."""
    return [[value.mean - value.low], [value.high - value.mean]] if value.has_interval else None


def mark_of(look: Look, value: PairedDifference) -> dict[str, Any]:
    """Return a point's style: hollow without an interval, so that the point does not seem exact."""
    inside = look.colour if value.has_interval else "white"
    return {"color": look.colour, "marker": look.marker, "markerfacecolor": inside}


def draw_heatmap(
    heatmap: Heatmap, factors: tuple[str, str], metric: Metric, digits: int, form: Form = USUAL
) -> "Figure":
    """Draw the means as colours and numbers; a cell without a run is grey and says n/a.

    `factors`: labels of the axes, down and across.
    """
    with styled(form):
        down = [fitted(name, NAME * column() / 1.5) for name in heatmap.down]
        beside = 50 if form.legend == "none" else 85
        room = column() - max(map(width_of, down)) - beside  # the colour bar, labels and margins
        across, is_upright = _column_names(heatmap.across, room / len(heatmap.across))
        above = max(map(width_of, across)) / 72 if is_upright else line_inches() * max(map(lines_of, across))
        tall = max(0.3, line_inches() * max(map(lines_of, down)) + 0.06)
        figure, axes = canvas(form, 0.75 * form.font / FONT_POINTS + above + tall * len(down))
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
                    j, i, texts[i][j], ha="center", va="center", color=colour, fontsize=small(),
                    rotation=90 if is_wide else 0,
                )  # fmt: skip
        axes.set_facecolor("#EEEEEE")
        axes.set_xticks(range(len(across)), across, rotation=90 if is_upright else 0)
        axes.set_yticks(range(len(down)), down)
        axes.grid(False)
        axes.set(ylabel=factors[0], xlabel=factors[1])
        if form.legend != "none":
            plain_axes(figure.colorbar(image, ax=axes, label=metric.header).ax)
    return figure


def _column_names(names: Sequence[str], points: float) -> tuple[list[str], bool]:
    """Wrap column names to a width in points; return them, and whether they must be upright to fit."""
    across = [fitted(name, points - 4) for name in names]
    parts = [word for name in names for word in name.split()]
    if max(map(lines_of, across)) <= 3 and max(map(width_of, parts), default=0) <= points - 4:
        return across, False
    lines = max(1, int(points / (72 * line_inches())))
    return [fitted(name, max(NAME * column(), 1.3 * width_of(name) / lines)) for name in names], True


def draw_forest(
    differences: Sequence[tuple[str, PairedDifference]],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    metric: Metric,
    baseline: str,
    form: Form = USUAL,
) -> "Figure":
    """Draw each row's mean difference and interval beside a line at zero, the first row on top.

    `baseline`: its display name. Vertical positions are in inches.
    """
    with styled(form):
        names = [fitted(labels[row], NAME * column()) for row, _ in differences]
        below = fitted(
            difference_label(metric, baseline), column() - max(map(width_of, names)) - 24, form.font
        )
        ends = list(itertools.accumulate(0.12 + line_inches() * lines_of(name) for name in names))
        middles = [(start + end) / 2 for start, end in zip([0.0, *ends], ends, strict=False)]
        figure, axes = canvas(form, ends[-1] + (0.32 + 0.13 * lines_of(below)) * form.font / FONT_POINTS)
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


def draw_ranks(ranks: Ranks, labels: Sequence[str], form: Form = USUAL) -> "Figure":
    """Draw the methods at their average ranks, and bars over those that the test cannot distinguish.

    The better half has its names on the left, the other half on the right. Vertical positions are in inches.
    """
    count, left, worst = len(ranks.methods), (len(ranks.methods) + 1) // 2, ranks.compared
    bottom, top = -0.14 - 0.08 * len(ranks.groups), 0.24 + (0.22 if ranks.critical is not None else 0)
    with styled(form):
        named = zip(labels, ranks.average, strict=True)
        texts = [fitted(f"{label} ({rank:.2f})", RANKED * column()) for label, rank in named]
        line = 0.06 + line_inches() * max(map(lines_of, texts))
        figure, axes = canvas(form, top - bottom + line * (left - 0.5) + 0.1)
        axes.set(xlim=(1, worst), ylim=(bottom - line * (left - 0.5), top))
        axes.axis("off")
        axes.hlines(0, 1, worst, color="black", linewidth=0.8, clip_on=False)
        for tick in range(1, worst + 1):
            axes.vlines(tick, 0, 0.05, color="black", linewidth=0.8, clip_on=False)
            if worst < 10 or tick % 2:
                axes.text(tick, 0.07, str(tick), ha="center", va="bottom", fontsize=small())
        for index, (text, rank) in enumerate(zip(texts, ranks.average, strict=True)):
            is_left = index < left
            height = bottom - line * (index if is_left else count - 1 - index)
            end, side = (1, "right") if is_left else (worst, "left")
            axes.plot([rank, rank, end], [0, height, height], color="#555555", linewidth=0.7, clip_on=False)
            axes.annotate(
                text, (end, height), (-3 if is_left else 3, 0),
                textcoords="offset points", ha=side, va="center", fontsize=small(),
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
        textcoords="offset points", va="center", fontsize=small(),
    )  # fmt: skip


def draw_legend(figure: "Figure", legend: Legend, handles: Sequence[Any] | None = None) -> None:
    """Draw a fitted legend below the axes; none without columns. `handles`: by default all labelled ones."""
    if not legend.columns:
        return
    given = {} if handles is None else {"handles": handles, "labels": legend.texts}
    figure.legend(
        loc="outside lower center", ncol=legend.columns, columnspacing=1, handletextpad=0.4, **given
    )


def difference_label(metric: Metric, baseline: str) -> str:
    """Return the label of an axis of differences to the baseline."""
    unit = f" ({metric.unit_of_differences})" if metric.unit else ""
    return f"Δ {metric.label} vs {baseline}{unit}"


def factor_label(factor: str) -> str:
    """Return the label of a dotted key, such as `Groups` for `model.attention.groups`."""
    return factor.rpartition(".")[2].replace("_", " ").capitalize()
