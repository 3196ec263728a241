"""Optuna's own plots in the look of our figures, at one column's width.

Optuna draws with pyplot in matplotlib's `ggplot` style; while it draws, our style goes by that name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ema_lab.experiments.search.storage import quiet_optuna
from ema_lab.reports.figures.style import COLOURS, COLUMN_INCHES, RC, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, BLUE, RED = COLOURS[:3]
GREY = "#AAAAAA"
LONG_LABELS = 16  # characters on an axis of half a column, from which on they are turned
PLOT_INCHES = 2.3


@contextmanager
def optuna_styled() -> Iterator[None]:
    """Let Optuna draw in our style, without a window and without its notes on what is experimental."""
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
    """Draw a bar per parameter: its share of what tells the best trials from the others (PED-ANOVA)."""
    from optuna.visualization.matplotlib import plot_param_importances

    with optuna_styled():
        axes = plot_param_importances(study)
        for bar in axes.patches:
            bar.set_color(BLUE)
        for text in axes.texts:
            text.set_text(f" {text.get_text()}")
            text.set_fontsize(7)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="Importance (share)", ylabel="", xlim=(0, 1.15 * axes.get_xlim()[1]))
        return _finished(axes.figure, 0.6 + 0.22 * len(axes.patches))


def plot_history(study: Any, label: str) -> "Figure":
    """Draw each trial's value, and the best so far as a line."""
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_optimization_history

    with optuna_styled():
        axes = plot_optimization_history(study, target_name=label)
        trials, *_ = axes.collections
        trials.set(facecolor=BLUE, edgecolor="none", sizes=[14])
        for line in axes.lines:
            line.set(color=RED, alpha=1, drawstyle="steps-post")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(axes.figure, [(trials, "Finished trial"), *((line, "Best so far") for line in axes.lines)])
        return _finished(axes.figure, PLOT_INCHES)


def plot_intermediate(study: Any, label: str) -> "Figure":
    """Draw the value after each epoch, of finished and of pruned trials."""
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_intermediate_values

    pruned = {f"Trial{one.number}" for one in study.trials if one.state.name == "PRUNED"}
    with optuna_styled():
        axes = plot_intermediate_values(study)
        shown = {}
        for line in axes.lines:
            is_pruned = line.get_label() in pruned
            line.set(color=RED if is_pruned else BLUE, linewidth=0.8, markersize=3)
            line.set(zorder=3 if is_pruned else 2, linestyle="--" if is_pruned else "-")
            shown["Pruned trial" if is_pruned else "Finished trial"] = line
        axes.set(xlabel="Epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(axes.figure, [(line, name) for name, line in sorted(shown.items())])
        return _finished(axes.figure, PLOT_INCHES)


def plot_slices(study: Any, names: Sequence[str], label: str) -> "Figure":
    """Draw the value over each parameter, two side by side; the darker, the later the trial."""
    import numpy as np
    from matplotlib.gridspec import GridSpec
    from optuna.visualization.matplotlib import plot_slice

    with optuna_styled():
        found = np.atleast_1d(plot_slice(study, list(names), target_name=label))
        figure = found[0].figure
        across = 2 if len(found) > 1 else 1
        rows = -(-len(found) // across)
        cells = GridSpec(rows, across, figure=figure)
        for place, axes in enumerate(found):
            axes.set_subplotspec(cells[place // across, place % across])
            is_left = place % across == 0
            axes.tick_params(labelleft=is_left, labelbottom=True)
            axes.set(xlabel=axes.get_xlabel(), ylabel="")
            for points in axes.collections:
                points.set(sizes=[16], linewidth=0.4)
            _plain_axis(axes, "x", study, narrow=across > 1)
        figure.supylabel(label, fontsize=RC["axes.labelsize"])
        return _finished(figure, 0.4 + 1.5 * rows)


def plot_contour_of(study: Any, names: tuple[str, str], label: str) -> "Figure":
    """Draw the value over two parameters, interpolated between the trials, which are dots."""
    from optuna.visualization.matplotlib import plot_contour

    with optuna_styled():
        axes = plot_contour(study, list(names), target_name=label)
        for points in axes.collections:
            if hasattr(points, "get_sizes") and len(points.get_offsets()) and len(points.get_sizes()):
                points.set(sizes=[9], linewidth=0.5)
        axes.grid(visible=False)
        for way in ("x", "y"):
            _plain_axis(axes, way, study, narrow=False)
        return _finished(axes.figure, 2.5)


def plot_front(study: Any, labels: Sequence[str]) -> "Figure":
    """Draw the trials over two or three objectives, those on the Pareto front apart."""
    from optuna.visualization.matplotlib import plot_pareto_front

    with optuna_styled():
        axes = plot_pareto_front(study, target_names=list(labels))
        names = {"Trial": ("Dominated trial", GREY), "Best Trial": ("On the Pareto front", RED)}
        shown = []
        for points in axes.collections:
            name, colour = names[points.get_label()]
            points.set(facecolor=colour, edgecolor="none", sizes=[16])
            shown.append((points, name))
        _legend(axes.figure, shown)
        is_flat = len(labels) == 2
        return _finished(axes.figure, PLOT_INCHES if is_flat else COLUMN_INCHES)


def _finished(figure: "Figure", height: float) -> "Figure":
    """Take off titles, which captions have, and Optuna's legends; give the figure its size."""
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


def _legend(figure: "Figure", shown: Iterable[tuple[Any, str]]) -> None:
    handles, names = zip(*shown, strict=True)
    figure.legend(handles, names, loc="outside lower center", ncol=2, columnspacing=1, handletextpad=0.4)


def _plain_axis(axes: Any, way: str, study: Any, *, narrow: bool) -> None:
    """Write a parameter's ticks as plain numbers, and turn long names."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis = getattr(axes, f"{way}axis")
    distribution = _distributions(study).get(axis.get_label_text())
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        _name_choices(axis, way, narrow=narrow)
        return
    if axis.get_scale() == "log":
        low, high = getattr(axes, f"get_{way}lim")()
        wide = high / low > 30
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=4 if narrow else 6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name_choices(axis: Any, way: str, *, narrow: bool) -> None:
    names = [text.get_text().strip("'\"") for text in axis.get_ticklabels()]
    axis.set_ticks(axis.get_ticklocs(), names)
    room = LONG_LABELS * (1 if narrow else 2)
    if way == "x" and sum(map(len, names)) + len(names) > room:
        axis.set_tick_params(labelrotation=40)
        for text in axis.get_ticklabels():
            text.set(ha="right", rotation_mode="anchor")


def _distributions(study: Any) -> Mapping[str, Any]:
    return {name: one for trial in study.trials for name, one in trial.distributions.items()}
