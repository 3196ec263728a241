"""Optuna's own plots in the style of our figures, at one column's width.

Optuna draws with pyplot in matplotlib's `ggplot` style. While Optuna draws, our style replaces the one of
that name.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ema_lab.reports.figures.style import COLOURS, COLUMN_INCHES, RC, styled
from ema_lab.search.storage import quiet_optuna

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, BLUE, RED = COLOURS[:3]
GREY = "#AAAAAA"
COLUMN, HALF_COLUMN = 36, 15  # characters that fit along an axis of that width
TICK_CHARACTERS = 5
CHARACTER_INCHES = 0.055
TURNED = 40  # degrees
PLOT_INCHES = 2.3


@contextmanager
def optuna_styled() -> Iterator[None]:
    """Let Optuna draw in our style, without a window and without its warnings."""
    import matplotlib
    import matplotlib.style

    library = matplotlib.style.library
    theirs = library["ggplot"]
    with styled(), quiet_optuna(), matplotlib.rc_context({"backend": "agg"}):
        size = {"figure.figsize": (COLUMN_INCHES, PLOT_INCHES), "figure.constrained_layout.use": True}
        library["ggplot"] = matplotlib.RcParams({**RC, **size})
        try:
            yield
        finally:
            library["ggplot"] = theirs


def plot_importance(study: Any) -> "Figure":
    """Draw a bar per parameter: its importance by PED-ANOVA, as a share."""
    from optuna.visualization.matplotlib import plot_param_importances

    with optuna_styled():
        axes: Any = plot_param_importances(study)
        for bar in axes.patches:
            bar.set_color(BLUE)
        for text in axes.texts:
            text.set_text(f" {text.get_text()}")
            text.set_fontsize(7)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="Importance (share)", ylabel="", xlim=(0, 1.15 * axes.get_xlim()[1]))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])  # beyond 1 is room for the numbers
        return _finished(axes.figure, 0.6 + 0.22 * len(axes.patches))


def plot_history(study: Any, label: str) -> "Figure":
    """Draw each trial's value, and the best so far as a line."""
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_optimization_history

    with optuna_styled():
        axes: Any = plot_optimization_history(study, target_name=label)
        trials, *_ = axes.collections
        trials.set(facecolor=BLUE, edgecolor="none", sizes=[14])
        for line in axes.lines:
            line.set(color=RED, alpha=1, drawstyle="steps-post")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(axes.figure, [(trials, "Finished trial"), *((line, "Best so far") for line in axes.lines)])
        return _finished(axes.figure, PLOT_INCHES)


def plot_budget(
    means: Sequence[float], stds: Sequence[float], bounds: tuple[float, float], label: str
) -> "Figure":
    """Draw the expected best value over the number of trials, with a band of its standard deviation.

    Args:
        means: Expected best values of 1, 2, ... trials.
        stds: Their standard deviations.
        bounds: Least and greatest value, which the band does not leave.
        label: Label of the values.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure = Figure(figsize=(COLUMN_INCHES, PLOT_INCHES), layout="constrained")
        axes = figure.add_subplot()
        budgets, mean, std = np.arange(1, len(means) + 1), np.array(means), np.array(stds)
        low, high = (np.clip(mean + side * std, *bounds) for side in (-1, 1))
        axes.fill_between(budgets, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(budgets, mean, color=BLUE)
        axes.set(xlabel="Trials", ylabel=f"Expected best\n{label}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        return figure


def plot_intermediate(study: Any, label: str) -> "Figure":
    """Draw the value after each epoch, for finished and pruned trials."""
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_intermediate_values

    pruned = {f"Trial{trial.number}" for trial in study.trials if trial.state.name == "PRUNED"}
    with optuna_styled():
        axes: Any = plot_intermediate_values(study)
        line_of = {}
        for line in axes.lines:
            is_pruned = line.get_label() in pruned
            line.set(color=RED if is_pruned else BLUE, linewidth=0.8, markersize=3)
            line.set(zorder=3 if is_pruned else 2, linestyle="--" if is_pruned else "-")
            line_of["Pruned trial" if is_pruned else "Finished trial"] = line
        axes.set(xlabel="Epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(axes.figure, [(line, name) for name, line in sorted(line_of.items())])
        return _finished(axes.figure, PLOT_INCHES)


def plot_slices(study: Any, names: Sequence[str], label: str) -> "Figure":
    """Draw the value over each parameter; darker points are better trials, the best on top.

    All plots have the same width: two side by side, unless the labels of one do not fit.
    """
    import numpy as np
    from optuna.visualization.matplotlib import plot_slice

    with optuna_styled():
        plots: Any = plot_slice(study, list(names), target_name=label)
        panels = list(np.atleast_1d(plots))
        figure = panels[0].figure
        columns = 1 if len(panels) == 1 or any(_has_long_names(axes.xaxis) for axes in panels) else 2
        rows = -(-len(panels) // columns)
        _place_in_rows(figure, panels, rows, columns)
        deeper = 0.0
        for axes in panels:
            axes.tick_params(labelbottom=True)
            axes.set(xlabel=axes.get_xlabel(), ylabel="")
            for points in axes.collections:
                points.set(sizes=[16], linewidth=0.4)
            _shade_by_rank(axes.collections[0], study)
            deeper += _plain_axis(axes, "x", study, COLUMN if columns == 1 else HALF_COLUMN)
        figure.supylabel(label, fontsize=RC["axes.labelsize"])
        panels[-1].collections[0].colorbar.remove()
        return _finished(figure, 0.45 + 1.4 * rows + deeper)


def _shade_by_rank(points: Any, study: Any) -> None:
    """Shade the points of a slice by their rank among all finished trials: the best darkest, drawn last."""
    import numpy as np

    sign = 1 if study.direction.name == "MAXIMIZE" else -1
    ranked = sorted(sign * trial.value for trial in study.trials if trial.state.name == "COMPLETE")
    offsets = np.asarray(points.get_offsets())
    order = np.argsort(sign * offsets[:, 1], kind="stable")
    points.set_offsets(offsets[order])
    points.set_array(np.searchsorted(ranked, sign * offsets[order, 1], side="right"))
    points.set_clim(-len(ranked) / 4, len(ranked))  # the worst is not white


def _place_in_rows(figure: Any, panels: Sequence[Any], rows: int, columns: int) -> None:
    from matplotlib.gridspec import GridSpec

    cells = GridSpec(rows, columns, figure=figure)
    for index, axes in enumerate(panels):
        row, column = divmod(index, columns)
        axes.set_subplotspec(cells[row, column])
        axes.tick_params(labelleft=column == 0)


def plot_contour_of(study: Any, names: tuple[str, str], label: str) -> "Figure":
    """Draw the value over two parameters, interpolated between the trials, which are dots."""
    from matplotlib.collections import PathCollection
    from optuna.visualization.matplotlib import plot_contour

    with optuna_styled():
        axes: Any = plot_contour(study, list(names), target_name=label)
        for points in axes.collections:
            if isinstance(points, PathCollection):
                points.set(sizes=[9], linewidth=0.5)
        axes.grid(visible=False)
        deeper = _plain_axis(axes, "x", study, COLUMN)
        _plain_axis(axes, "y", study, COLUMN)
        return _finished(axes.figure, 2.5 + deeper)


def plot_front(study: Any, labels: Sequence[str]) -> "Figure":
    """Draw the trials over two or three objectives, and highlight the Pareto front."""
    from optuna.visualization.matplotlib import plot_pareto_front

    with optuna_styled():
        axes: Any = plot_pareto_front(study, target_names=list(labels))
        names = {"Trial": ("Dominated trial", GREY), "Best Trial": ("On the Pareto front", RED)}
        handles = []
        for points in axes.collections:
            name, colour = names[points.get_label()]
            points.set(facecolor=colour, edgecolor="none", sizes=[16])
            handles.append((points, name))
        _legend(axes.figure, handles)
        if len(labels) == 2:
            return _finished(axes.figure, PLOT_INCHES)
        axes.set_box_aspect(None, zoom=0.8)  # layout engines leave no room for a 3-D axis's labels
        return _finished(axes.figure, COLUMN_INCHES)


def _finished(figure: "Figure", height: float) -> "Figure":
    """Remove titles, which captions replace, and Optuna's legends; set the figure's size."""
    import matplotlib.pyplot as plt

    plt.close(figure)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(COLUMN_INCHES, height)
    figure.suptitle("")
    for axes in figure.axes:
        for where in ("left", "center"):
            axes.set_title("", loc=where)
        if legend := axes.get_legend():
            legend.remove()
    return figure


def _legend(figure: "Figure", entries: Iterable[tuple[Any, str]]) -> None:
    handles, names = zip(*entries, strict=True)
    figure.legend(handles, names, loc="outside lower center", ncol=2, columnspacing=1, handletextpad=0.4)


def _plain_axis(axes: Any, way: str, study: Any, room: int) -> float:
    """Write a parameter's ticks as plain text, rotated if they are longer than `room` characters.

    Returns:
        Height in inches that rotated names add to the figure.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axis = getattr(axes, f"{way}axis")
    distributions = {
        name: candidate for trial in study.trials for name, candidate in trial.distributions.items()
    }
    if (distribution := distributions.get(axis.get_label_text())) is None or hasattr(distribution, "choices"):
        return _name_choices(axis, way, room)
    if axis.get_scale() == "log":
        low, high = getattr(axes, f"get_{way}lim")()
        axis.set_major_locator(FixedLocator(log_ticks(low, high, room // TICK_CHARACTERS)))
        axis.set_minor_locator(NullLocator())
    else:
        whole = "Int" in type(distribution).__name__
        axis.set_major_locator(MaxNLocator(nbins=room // TICK_CHARACTERS + 1, integer=whole))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    return 0.0


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at least two round numbers from low to high, and at most `most` where possible."""
    from matplotlib.ticker import MaxNLocator

    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [((1, 2, 5), 1), ((1, 3), 1), *(((1,), every) for every in range(1, len(powers) + 1))]
    for factors, every in choices:
        ticks = [float(f"{factor}e{power}") for power in powers[::every] for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(inside) <= most:
            return inside
    return [float(tick) for tick in MaxNLocator(most - 1).tick_values(low, high) if low <= tick <= high]


def tick_text(value: float) -> str:
    """Format a number as a tick label with as few characters as possible: 0.01, 2e-5."""
    text = f"{value:g}"
    if 0 < abs(value) < 1e-3:
        digits, _, power = f"{value:e}".partition("e")
        text = f"{float(digits):g}e{int(power)}"
    return text


def _name_choices(axis: Any, way: str, room: int) -> float:
    names = _names(axis)
    axis.set_ticks(axis.get_ticklocs(), names)
    if way == "y" or not _is_crowded(axis, room):
        return 0.0
    axis.set_tick_params(labelrotation=TURNED)
    for text in axis.get_ticklabels():
        text.set(ha="right", rotation_mode="anchor")
    return CHARACTER_INCHES * math.sin(math.radians(TURNED)) * max(map(len, names))


def _is_crowded(axis: Any, room: int) -> bool:
    names = _names(axis)
    return sum(map(len, names)) + len(names) > room


def _has_long_names(axis: Any) -> bool:
    """Return whether an axis has category names (matplotlib: units) too long for half a column."""
    return axis.have_units() and _is_crowded(axis, HALF_COLUMN)


def _names(axis: Any) -> list[str]:
    """Return the category names of an axis without the quotes that Optuna adds."""
    return [text.get_text().strip("'\"") for text in axis.get_ticklabels()]
