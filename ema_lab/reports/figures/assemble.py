"""From a report's specs to drawn figures with captions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.files import write_text
from ema_lab.reports.figures import draw, numbers
from ema_lab.reports.figures.captions import counted, curves_words, forest_words, listed, tradeoff_words
from ema_lab.reports.figures.numbers import NothingToDrawError
from ema_lab.reports.figures.ranks import by_data, dropped_words, ranks_of
from ema_lab.reports.figures.style import FILES, looks_of, save, unknown_characters
from ema_lab.reports.naming import baseline_name, printed_row
from ema_lab.reports.report import latencies, with_task
from ema_lab.reports.row_order import modules_of, report_rows, row_labels
from ema_lab.results.selection import PAIR_WORDS, Measured, Row
from ema_lab.specs.figure import (
    CriticalDifferenceFigure,
    CurvesFigure,
    Figure,
    ForestFigure,
    HeatmapFigure,
    TradeoffFigure,
)
from ema_lab.specs.metric import Metric
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Drawn:
    """A figure and what is to be said below it; `drawing` is None where there is nothing to draw yet."""

    name: str
    drawing: "Drawing | None"
    caption: str

    def write(self, folder: Path) -> list[Path]:
        """Write PDF, SVG, PNG and the caption; without a drawing the caption alone, and no older picture."""
        path = folder / f"{self.name}.txt"
        write_text(path, f"{self.caption}\n", durable=False)
        if self.drawing is not None:
            return [*save(self.drawing, folder, self.name), path]
        for ending in FILES:
            (folder / f"{self.name}.{ending}").unlink(missing_ok=True)
        return [path]


def remarks(figures: Sequence[Drawn]) -> list[str]:
    """Return what to tell the user beside the files: what is not drawn, and characters that no font has."""
    words = [f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None]
    signs = "".join(unknown_characters(figure.drawing) for figure in figures if figure.drawing is not None)
    if signs:
        found, rule = "".join(dict.fromkeys(signs)), "they are drawn as boxes; install a font that has them"
        words.append(f"figures: no font here has the characters {found!r}: {rule}")
    return words


def report_figures(report: ReportSpec, store: RunStore) -> list[Drawn]:
    """Draw all figures of a report from the records of a store.

    Raises:
        SpecError: If one asks for what the ablations or their records do not have.
    """
    if not report.figures:
        return []
    found = []
    for ablation, rows in report_rows(report, store):
        if any(isinstance(figure, TradeoffFigure) and figure.cost == "latency" for figure in report.figures):
            timed = latencies(ablation, rows, store)
            rows = [replace(row, latency=timed.measured.get(row.name)) for row in rows] if timed else rows
        found.append((ablation, rows))
    return draw_figures(report, found, store)


def draw_figures(
    report: ReportSpec, found: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
) -> list[Drawn]:
    """Draw all figures of a report, of these rows of its ablations.

    Raises:
        SpecError: If one asks for what the ablation or its records do not have.
    """
    report = with_task(report, (ablation for ablation, _ in found))
    drawn = []
    drawing: Drawing | None
    drawer = _Drawer(report, found, store)
    for number, figure in enumerate(report.figures):
        try:
            drawing, words = drawer.draw(figure)
        except NothingToDrawError as error:
            drawing, words = None, f"Not drawn: {error}."
        except SpecError as error:
            raise report.error_at(f"figure {figure.name}: {error}", "figures", number) from None
        title = figure.title or report.title or (report.name if report.ablations else drawer.ablation.name)
        caption = " ".join([title.rstrip(".") + ".", words, *drawer.standing()])
        drawn.append(Drawn(figure.name, drawing, caption))
    return drawn


class _Drawer:
    """Draws figures of one report; each method returns a drawing and the words for its caption."""

    def __init__(
        self, report: ReportSpec, found: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
    ) -> None:
        self.report, self.found, self.store = report, found, store
        self.ablation = found[0][0]
        self.rows = [row for _, rows in found for row in rows]
        self.looks = looks_of(modules_of(self.ablation, self.rows))
        self.labels = row_labels(report, self.rows)
        self.decided = report.seeds == "decided"

    def draw(self, figure: Figure) -> tuple["Drawing", str]:
        sources = list(self.report.ablations.values())
        if len(sources) > 1 and not isinstance(figure, CriticalDifferenceFigure):
            raise SpecError(
                f"the kind {figure.kind} shows one ablation, and this report has "
                f"{len(sources)}: {', '.join(sources)}; give each a report of its own"
            )
        if not self.rows:
            raise NothingToDrawError("`only` leaves none of the rows that `rows` names")
        match figure:
            case TradeoffFigure():
                return self.tradeoff(figure)
            case CurvesFigure():
                return self.curves(figure)
            case HeatmapFigure():
                return self.heatmap(figure)
            case ForestFigure():
                return self.forest(figure)
            case CriticalDifferenceFigure():
                return self.ranks(figure)

    def _metric(
        self, figure: TradeoffFigure | HeatmapFigure | ForestFigure | CriticalDifferenceFigure
    ) -> Metric:
        return self.report.task.metrics[figure.metric]

    def tradeoff(self, figure: TradeoffFigure) -> tuple["Drawing", str]:
        points = numbers.tradeoff_points(self.rows, figure.metric, figure.cost, decided=self.decided)
        if not points:
            hint = "; `ema-lab cost --latency` measures it" if figure.cost == "latency" else ""
            raise NothingToDrawError(f"no finished run has both {figure.metric} and {figure.cost}{hint}")
        drawing = draw.draw_tradeoff(points, self.looks, self.labels, self._metric(figure), figure.cost)
        words = tradeoff_words([point.value for point in points], decided=self.decided)
        return drawing, words + self._absent([point.row for point in points])

    def curves(self, figure: CurvesFigure) -> tuple["Drawing", str]:
        curves = numbers.curves_of(self.rows, self.store, figure, decided=self.decided)
        if not curves:
            raise NothingToDrawError("no run is finished, so there is no curve")
        drawing = draw.draw_curves(
            curves, self.looks, self.labels, self.report.task.curve_label(figure.column)
        )
        words = curves_words(curves, figure.band, decided=self.decided)
        return drawing, words + self._absent([curve.row for curve in curves])

    def heatmap(self, figure: HeatmapFigure) -> tuple["Drawing", str]:
        found = numbers.heatmap_of(self.rows, figure)
        if not any(cell for row in found.cells for cell in row):
            raise NothingToDrawError("no run is finished, so there is no number to show")
        named = replace(found, down=self._names(found.down), across=self._names(found.across))
        names = self.report.names
        down, across = (names.get(factor, draw.factor_label(factor)) for factor in figure.factors)
        drawing = draw.draw_heatmap(named, (down, across), self._metric(figure), self.report.digits)
        seeds = counted([cell[1] for row in found.cells for cell in row if cell])
        lost = listed([self.labels[name] for name in found.left_out])
        out = f" Without these factors, so not shown: {lost}." if lost else ""
        return drawing, f"{self._metric(figure).header}, mean over {seeds}; n/a: no run.{out}"

    def _names(self, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.report.names.get(value, value) for value in values)

    def forest(self, figure: ForestFigure) -> tuple["Drawing", str]:
        if self.ablation.baseline is None:
            raise SpecError(f"needs a baseline, and the ablation {self.ablation.name} names none")
        baseline = baseline_name(self.report, self.ablation)
        if all(row.is_baseline for row in self.rows):
            raise NothingToDrawError(f"every row is the baseline {baseline!r}, so there is no difference")
        found = numbers.forest_differences(self.rows, figure.metric, decided=self.decided)
        if not found:
            raise NothingToDrawError("no row has a seed in common with the baseline")
        drawing = draw.draw_forest(found, self.looks, self.labels, self._metric(figure), baseline)
        words = forest_words([value for _, value in found], baseline, decided=self.decided)
        if not all(item.clean_pair for row in self.rows for item in row.cells):
            words += f" Not all pairs are clean: {PAIR_WORDS} differ."
        shown = [name for name, _ in found] + [row.name for row in self.rows if row.is_baseline]
        return drawing, words + self._absent(shown)

    def ranks(self, figure: CriticalDifferenceFigure) -> tuple["Drawing", str]:
        if self.decided:
            rule = "a rank needs a number of seeds that was fixed beforehand"
            raise SpecError(f"{rule}, and this report has seeds: decided")
        data = by_data(self.report, [rows for _, rows in self.found])
        found = ranks_of(data, figure, self._metric(figure).sign)
        methods = {name: row.cells[0].cell for rows in data.values() for name, row in rows.items()}
        test = {"nemenyi": "Nemenyi's test", "wilcoxon": "Wilcoxon's signed-rank test with Holm's correction"}
        words = (
            f"Average ranks by {self._metric(figure).header} on {found.datasets} data sets (1 is best; "
            f"means over {counted(found.seeds)}). Friedman's test: p = {found.friedman_p:.2g}. "
        )
        if found.friedman_p >= figure.alpha:
            words += "It finds no difference, so no pair was tested, and one bar joins all methods."
        elif found.groups:
            words += f"Bars join methods that {test[figure.test]} cannot tell apart at {figure.alpha:g}."
        else:
            words += f"{test[figure.test]} tells all pairs apart at {figure.alpha:g}."
        if found.dropped:
            words += f" Left out, since a method has no run there: {dropped_words(found.dropped)}."
        if self.report.kind != "datasets":
            return draw.draw_ranks(found, self._names(found.methods)), words
        names = [printed_row(self.report, methods[name]) for name in found.methods]
        return draw.draw_ranks(found, names), words

    def _absent(self, shown: Sequence[str]) -> str:
        absent = [self.labels[row.name] for row in self.rows if row.name not in shown]
        return f" Not shown for want of numbers: {listed(absent)}." if absent else ""

    def standing(self) -> list[str]:
        """Return sentences on the runs that are not there and those that are stale."""
        words = []
        total = sum(len(row.cells) for row in self.rows)
        if short := self._counted(lambda item: item.record is None):
            words.append(f"{sum(short.values())} of {total} runs are not there: {_named(short)}.")
        if stale := self._counted(lambda item: bool(item.stale)):
            said = "runs are stale (their source has changed)"
            words.append(f"{sum(stale.values())} of {total} {said}: {_named(stale)}.")
        return words

    def _counted(self, holds: Callable[[Measured], bool]) -> Counter[str]:
        """Count the runs of which something holds by their row's name; ablations may share a name."""
        return Counter(self.labels[row.name] for row in self.rows for item in row.cells if holds(item))


def _named(counts: Counter[str]) -> str:
    return listed([f"{name} ({count})" for name, count in counts.items()])
