"""Figures of a search: their drawings, captions, and reasons for not drawing one."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ema_lab.reports.figures.assemble import Drawn
from ema_lab.reports.figures.numbers import NothingToDrawError
from ema_lab.search.history import STEPS, History
from ema_lab.search.objective import Objective
from ema_lab.search.optimism import optimism_text
from ema_lab.search.report import plot
from ema_lab.search.report.importance import FEW, importances
from ema_lab.search.report.study_copy import study_as_searched, study_of_values
from ema_lab.search.report.trials import counts_text, seeds_text, stale_text
from ema_lab.statistics.search import expected_best
from ema_lab.wording import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CONTOURS = 3  # contours are drawn for all pairs of so many most important parameters
FRONTS = (2, 3)  # numbers of objectives that a plot can show


def search_figures(history: History) -> list[Drawn]:
    """Draw a search's figures: those of each objective, such as importance and history, then common ones."""
    figures: list[Drawn] = []
    for objective in history.objectives:
        end = f"-{objective.name}" if len(history.objectives) > 1 else ""
        figures += _OneObjective(history, objective, end).figures()
    if len(history.objectives) == 1:
        figures.append(_drawn(history, "intermediate", lambda: _intermediate(history)))
    else:
        figures.append(_drawn(history, "pareto", lambda: _front(history)))
    return figures


def _drawn(history: History, name: str, draw: Callable[[], tuple["Figure", str]]) -> Drawn:
    head = f"Search {history.sweep.name}."
    try:
        drawing, caption = draw()
    except NothingToDrawError as error:
        return Drawn(name, None, f"{head} Not drawn: {error}.")
    ends = [text for text in (optimism_text(history), stale_text(history.trials())) if text]
    end = "".join(f" {text[0].upper()}{text[1:]}." for text in ends)
    return Drawn(name, drawing, f"{head} {caption} {counts_text(history)}; {seeds_text(history)}.{end}")


class _OneObjective:
    """Figures of one objective. Each drawing method returns a drawing and its caption."""

    def __init__(self, history: History, objective: Objective, end: str) -> None:
        self.history, self.objective, self.end = history, objective, end
        self.study = study_of_values(history, (objective,))
        self.done = [trial for trial in self.study.trials if trial.state.name == "COMPLETE"]
        names = dict.fromkeys(name for trial in self.done for name in trial.params)
        self.varied = [name for name in names if len({trial.params[name] for trial in self.done}) > 1]
        self.importances = importances(history, objective)

    def figures(self) -> Iterator[Drawn]:
        drawn = {"importance": self.importance, "slice": self.slices, "history": self.past}
        if self.objective.is_metric:
            drawn["budget"] = self.budget
        for name, draw in drawn.items():
            yield _drawn(self.history, f"{name}{self.end}", draw)
        for first, second in self._pairs():
            name = f"contour-{first}-{second}{self.end}".replace("/", "_")
            yield _drawn(self.history, name, lambda a=first, b=second: self.contour(a, b))  # type: ignore[misc]
        if len(self.varied) < 2:
            yield _drawn(self.history, f"contour{self.end}", self._no_contour)

    def importance(self) -> tuple["Figure", str]:
        self._need(2)
        if not self.importances:
            raise NothingToDrawError(
                f"no parameter has any importance in {number_of(len(self.done), 'finished trial')}"
            )
        hint = " With so few trials it is a first hint at most." if len(self.done) < FEW else ""
        drawing = plot.plot_importance(study_as_searched(self.history, self.objective))
        return drawing, (
            f"Importance of each parameter for {self.objective.label} (PED-ANOVA, as shares of one): how far "
            f"the best tenth of the finished trials stands out by it.{hint}"
        )

    def slices(self) -> tuple["Figure", str]:
        self._need(2)
        if not self.varied:
            raise NothingToDrawError("no parameter has two values among the finished trials")
        self._need_two_values()
        drawing = plot.plot_slices(self.study, self._ordered(), self.objective.label)
        return drawing, f"{self.objective.label} of the finished trials; the darker, the better."

    def past(self) -> tuple["Figure", str]:
        self._need(1)
        drawing = plot.plot_history(self.study, self.objective.label)
        return drawing, f"{self.objective.label} of the finished trials in their order, and the best so far."

    def budget(self) -> tuple["Figure", str]:
        ended = [trial for trial in self.history.trials() if not trial.warm]
        position = self.history.objectives.index(self.objective)
        values = [trial.values[position] for trial in ended if trial.values is not None]
        if len(values) < 2:
            raise NothingToDrawError(f"needs two finished trials of this search, got {len(values)}")
        sign, lost = self.objective.sign, len(ended) - len(values)
        worst = sign * min(sign * value for value in values)
        best = expected_best([*values, *[worst] * lost], sign, range(1, len(ended) + 1))
        scale = self.objective.scale
        drawing = plot.plot_budget(
            [each.mean / scale for each in best],
            [each.std / scale for each in best],
            (min(values) / scale, max(values) / scale),
            self.objective.label,
        )
        count = "counts" if lost == 1 else "count"
        poor = f" {number_of(lost, 'pruned or failed trial')} {count} as the worst finished one."
        return drawing, (
            f"Expected best {self.objective.label} against the number of trials, drawn at random from the "
            f"{number_of(len(ended), 'ended trial')} of this search (Dodge et al. 2019); band: ± standard "
            f"deviation, within the values.{poor if lost else ''} It describes random search, not a sampler "
            "that learns from trials."
        )

    def contour(self, first: str, second: str) -> tuple["Figure", str]:
        self._need(2)
        self._need_two_values()
        drawing = plot.plot_contour_of(self.study, (first, second), self.objective.label)
        caption = f"{self.objective.label} by {first} and {second}, interpolated between the finished trials"
        gap_note = " Between listed values there is nothing." if self._is_listed(first, second) else ""
        return drawing, f"{caption} (dots), whatever their other values; the darker, the better.{gap_note}"

    def _no_contour(self) -> tuple["Figure", str]:
        self._need(2)
        raise NothingToDrawError("needs two parameters with two values each among the finished trials")

    def _need(self, count: int) -> None:
        if len(self.done) < count:
            raise NothingToDrawError(f"needs {number_of(count, 'finished trial')}, got {len(self.done)}")

    def _need_two_values(self) -> None:
        if len({trial.value for trial in self.done}) < 2:
            raise NothingToDrawError("all finished trials have the same value")

    def _is_listed(self, *names: str) -> bool:
        return any(isinstance(trial.params.get(name), str) for trial in self.done for name in names)

    def _ordered(self) -> list[str]:
        """Return the varied parameters, the most important first."""
        order = list(self.importances)
        return sorted(self.varied, key=lambda name: order.index(name) if name in order else len(order))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        return itertools.combinations(self._ordered()[:MOST_CONTOURS], 2)


def _intermediate(history: History) -> tuple["Figure", str]:
    objective = history.objectives[0]
    study = study_of_values(history, history.objectives)
    followed = [trial for trial in study.trials if trial.intermediate_values]
    if not followed:
        raise NothingToDrawError("no trial has reported a value by epoch")
    if history.study.user_attrs.get(STEPS) == "seed":
        raise NothingToDrawError("its trials were compared seed by seed, not by epoch")
    seed = f", of the run with seed {history.sweep.seeds[0]}" if len(history.sweep.seeds) > 1 else ""
    caption = f"{objective.label} after each epoch{seed}; {number_of(len(followed), 'trial')}."
    return plot.plot_intermediate(study, objective.label), caption


def _front(history: History) -> tuple["Figure", str]:
    labels = [objective.label for objective in history.objectives]
    if len(labels) not in FRONTS:
        raise NothingToDrawError(f"a Pareto plot takes two or three objectives, got {len(labels)}")
    study = study_of_values(history, history.objectives)
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise NothingToDrawError("no trial is finished")
    caption = f"Finished trials by {' and '.join(labels)}; {len(history.best())} of them on the Pareto front."
    return plot.plot_front(study, labels), caption
