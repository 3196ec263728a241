"""Trade-off figure: value against cost, with a label at each point."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ema_lab.reports.figures.draw import bars_of, canvas, draw_legend, mark_of
from ema_lab.reports.figures.fit import legend_of, small
from ema_lab.reports.figures.numbers import Point, front_of
from ema_lab.reports.figures.style import USUAL, Form, Look, styled
from ema_lab.specs.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: Mapping[str, tuple[str, float]] = {
    "macs": ("Multiply-adds per image (M)", 1e6),
    "parameters": ("Parameters (k)", 1e3),
    "latency": ("Latency (ms per batch)", 1.0),
}
FRONT = "Pareto front"
GREY = "#777777"
DARK = "#222222"
MANY = 12  # points above which bars are faint and the plot is higher
FAINT = 0.35
REACH = 0.3  # greatest distance of a label from its point, as a share of the figure


def draw_tradeoff(
    points: Sequence[Point],
    looks: Mapping[str, Look],
    labels: Mapping[str, str],
    metric: Metric,
    cost: str,
    form: Form = USUAL,
    header: str = "",
) -> "Figure":
    """Draw value against cost, with interval bars and the Pareto front as a step line.

    Each point has its name beside it if all names fit, else a number that the legend explains; with the
    form's legend `below`, all names are in the legend.

    Args:
        points: The points.
        looks: Look of each row.
        labels: Display name of each row.
        metric: The metric.
        cost: The cost.
        form: Form of the figure.
        header: Label of the vertical axis; the metric's by default.
    """
    names = [labels[point.row] for point in points]
    if form.legend not in {"below", "none"}:
        figure = _drawn(points, looks, [], metric, cost, form, header)
        if _label(figure.axes[0], points, looks, names, cost, form):
            return figure
        numbers = [str(number) for number in range(1, len(points) + 1)]
        listed = [f"{number}  {name}" for number, name in zip(numbers, names, strict=True)]
        figure = _drawn(points, looks, listed, metric, cost, form, header)
        _label(figure.axes[0], points, looks, numbers, cost, form, force=True)
        return figure
    return _drawn(points, looks, names if form.legend == "below" else [], metric, cost, form, header)


def _drawn(
    points: Sequence[Point],
    looks: Mapping[str, Look],
    listed: Sequence[str],
    metric: Metric,
    cost: str,
    form: Form,
    header: str,
) -> "Figure":
    """Draw the points, and a legend of the texts that are to be listed."""
    name, scale = COSTS[cost]
    with styled(form):
        legend = legend_of([*listed, FRONT] if listed else [], form)
        tall = 2.25 if len(points) <= MANY else 3.0
        figure, axes = canvas(form, tall + legend.inches, 1.2 + legend.inches)
        axes.margins(0.08, 0.08)
        handles: list[Any] = []
        alpha = 1 if len(points) <= MANY else FAINT
        for point in points:
            look, value = looks[point.row], point.value
            mark = mark_of(look, value)
            if point.is_reference:
                mark["markerfacecolor"] = look.colour
            bar = axes.errorbar(
                point.cost / scale, value.mean, yerr=bars_of(value), **mark,
                linestyle="none", capsize=2, elinewidth=0.8, zorder=3,
            )  # fmt: skip
            for line in (*bar[1], *bar[2]):
                line.set(alpha=alpha, zorder=2)
            handles.append(bar[0])
        if metric.unit == "%" and not header:
            _end_at_percent(axes)
        if any(point.is_reference for point in points):
            axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        corners = _front(points, metric, scale)
        axes.set_xlim(axes.get_xlim())
        corners.append((axes.get_xlim()[1], corners[-1][1]))  # to the right edge: more cost gains nothing
        handles += axes.plot(
            *zip(*corners, strict=True),
            drawstyle="steps-post", color=GREY, linestyle="--", linewidth=0.9, zorder=2,
        )  # fmt: skip
        axes.set(xlabel=name, ylabel=header or metric.header)
        axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10], min_n_ticks=3)
        draw_legend(figure, legend, handles)
    return figure


def _end_at_percent(axes: "Axes") -> None:
    """End a vertical axis of percentages at 0 and 100, with room for a marker there."""
    low, high = axes.get_ylim()
    low, high = max(low, 0.0), min(high, 100.0)
    room = 0.04 * (high - low)
    axes.set_ylim(low - room * (low == 0.0), high + room * (high == 100.0))


def _front(points: Sequence[Point], metric: Metric, scale: float) -> list[tuple[float, float]]:
    front = front_of(points, metric.sign)
    return [(points[index].cost / scale, points[index].value.mean) for index in front]


def _label(
    axes: "Axes",
    points: Sequence[Point],
    looks: Mapping[str, Look],
    texts: Sequence[str],
    cost: str,
    form: Form,
    *,
    force: bool = False,
) -> bool:
    """Put a text beside each point so that no two overlap, nor a text and a marker.

    Returns:
        Whether all texts have a place. If not, none is drawn; with `force`, those with a place are drawn.
    """
    import textalloc
    from matplotlib.patheffects import withStroke

    scale = COSTS[cost][1]
    x, y = [point.cost / scale for point in points], [point.value.mean for point in points]
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    with styled(form):
        _, _, drawn, lines = textalloc.allocate(
            axes, x, y, list(texts), x_scatter=x, y_scatter=y, textsize=small(), draw_all=False,
            max_distance=0.6 if force else REACH, min_distance=0.012, margin=0.006, linewidth=0.5,
            nbr_candidates=500 if force else 200,
            linecolor=[looks[point.row].colour for point in points], textcolor=DARK,
            avoid_label_lines_overlap=not force, avoid_crossing_label_lines=not force,
            path_effects=[withStroke(linewidth=1.5, foreground="white")], zorder=5,
        )  # fmt: skip
    if force or all(text is not None for text in drawn):
        return True
    artists: list[Any] = [*drawn, *lines]
    for artist in artists:
        if artist is not None:
            artist.remove()
    return False
