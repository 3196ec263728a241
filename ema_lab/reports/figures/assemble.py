"""Figures of a report, drawn from specs and records, with captions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.files import write_text
from ema_lab.measured.analysis import Analyses
from ema_lab.measured.selection import PAIR_LABELS, Measured, Row
from ema_lab.reports.figures import draw, draw_predictions, numbers, predictions
from ema_lab.reports.figures.captions import (
    confusion_caption,
    counted,
    curves_caption,
    dots_caption,
    forest_caption,
    listed,
    precision_caption,
    tradeoff_caption,
)
from ema_lab.reports.figures.numbers import NothingToDrawError
from ema_lab.reports.figures.ranks import by_data, dropped_text, ranks_of
from ema_lab.reports.figures.style import FILES, looks_of, picture, save, unknown_characters
from ema_lab.reports.naming import baseline_name, display_name
from ema_lab.reports.report import latencies, with_task
from ema_lab.reports.row_order import modules_of, report_rows, row_labels
from ema_lab.reports.table.notes import interval_words
from ema_lab.reports.table.sequential import interval_name, limit_words
from ema_lab.specs.figure import (
    ClassesFigure,
    ConfusionFigure,
    CriticalDifferenceFigure,
    CurvesFigure,
    Figure,
    ForestFigure,
    HeatmapFigure,
    PrecisionRecallFigure,
    SizesFigure,
    TradeoffFigure,
)
from ema_lab.specs.metric import Metric
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.wording import are, number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

MOST_CURVES = 8  # more cannot be told apart


@dataclass(frozen=True)
class Drawn:
    """Drawn figure with its caption; `drawing` is None where there is nothing to draw yet."""

    name: str
    drawing: "Drawing | None"
    caption: str

    def write(self, folder: Path) -> list[Path]:
        """Write PDF, SVG, PNG and the caption.

        Without a drawing, write only the caption and delete older pictures.
        """
        path = folder / f"{self.name}.txt"
        write_text(path, f"{self.caption}\n", durable=False)
        if self.drawing is not None:
            return [*save(self.drawing, folder, self.name), path]
        for ending in FILES:
            (folder / f"{self.name}.{ending}").unlink(missing_ok=True)
        return [path]

    def _repr_png_(self) -> bytes | None:
        """Return the figure as notebooks show it."""
        return None if self.drawing is None else picture(self.drawing, "png")


def remarks(figures: Sequence[Drawn]) -> list[str]:
    """Return messages for the user: figures not drawn, and characters that no font has."""
    messages = [f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None]
    signs = "".join(unknown_characters(figure.drawing) for figure in figures if figure.drawing is not None)
    if signs:
        missing, rule = "".join(dict.fromkeys(signs)), "they are drawn as boxes; install a font that has them"
        messages.append(f"figures: no font here has the characters {missing!r}: {rule}")
    return messages


def report_figures(report: ReportSpec, store: RunStore) -> list[Drawn]:
    """Draw all figures of a report from the records of a store.

    Raises:
        SpecError: If a figure needs a key that the ablations or their records lack.
    """
    if not report.figures:
        return []
    sections = []
    for ablation, rows in report_rows(report, store):
        if any(isinstance(figure, TradeoffFigure) and figure.cost == "latency" for figure in report.figures):
            timed = latencies(ablation, rows, store)
            rows = [replace(row, latency=timed.measured.get(row.name)) for row in rows] if timed else rows
        sections.append((ablation, rows))
    return draw_figures(report, sections, store)


def draw_figures(
    report: ReportSpec, sections: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
) -> list[Drawn]:
    """Draw all figures of a report from the rows of its ablations.

    Raises:
        SpecError: If a figure needs a key that the ablation or its records lack.
    """
    report = with_task(report, (ablation for ablation, _ in sections))
    drawn = []
    drawing: Drawing | None
    drawer = _Drawer(report, sections, store)
    for number, figure in enumerate(report.figures):
        try:
            drawing, text = drawer.draw(figure)
        except NothingToDrawError as error:
            drawing, text = None, f"Not drawn: {error}."
        except SpecError as error:
            raise report.error_at(f"figure {figure.name}: {error}", "figures", number) from None
        title = figure_title(report, figure, drawer.ablation.name)
        caption = " ".join([title.rstrip(".") + ".", text, *drawer.run_sentences()])
        drawn.append(Drawn(figure.name, drawing, caption))
    return drawn


def figure_title(report: ReportSpec, figure: Figure, ablation: str) -> str:
    """Return a figure's title: its own, the report's, or the name of what it shows."""
    return figure.title or report.title or (report.name if report.ablations else ablation)


class _Drawer:
    """Drawer of one report's figures; each drawing method returns a drawing and its caption."""

    def __init__(
        self, report: ReportSpec, sections: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
    ) -> None:
        self.report, self.sections, self.store = report, sections, store
        self.ablation = sections[0][0]
        self.rows = [row for _, rows in sections for row in rows]
        self.looks = looks_of(modules_of(self.ablation, self.rows))
        self.labels = row_labels(report, self.rows)
        self.decided = report.is_decided

    @cached_property
    def analyses(self) -> Analyses:
        """Analyses of the runs' predictions."""
        return Analyses(self.store, self.report.task)

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
            case PrecisionRecallFigure():
                return self.precision(figure)
            case ConfusionFigure():
                return self.confusion(figure)
            case SizesFigure() | ClassesFigure():
                return self.dots(figure)

    def _metric(
        self, figure: TradeoffFigure | HeatmapFigure | ForestFigure | CriticalDifferenceFigure
    ) -> Metric:
        return self.report.task.metrics[figure.metric]

    def tradeoff(self, figure: TradeoffFigure) -> tuple["Drawing", str]:
        rows = numbers.shown_rows(self.rows, figure.rows)
        points = numbers.tradeoff_points(rows, figure.metric, figure.cost, decided=self.decided)
        if not points:
            hint = "; `ema-lab cost --latency` measures it" if figure.cost == "latency" else ""
            raise NothingToDrawError(f"no finished run has both {figure.metric} and {figure.cost}{hint}")
        drawing = draw.draw_tradeoff(points, self.looks, self.labels, self._metric(figure), figure.cost)
        text = tradeoff_caption([point.value for point in points], decided=self.decided)
        return drawing, text + self._absent([point.row for point in points], rows)

    def curves(self, figure: CurvesFigure) -> tuple["Drawing", str]:
        rows = numbers.shown_rows(self.rows, figure.rows, MOST_CURVES)
        curves = numbers.curves_of(rows, self.store, figure, decided=self.decided)
        if not curves:
            raise NothingToDrawError("no run is finished, so there is no curve")
        drawing = draw.draw_curves(
            curves, self.looks, self.labels, self.report.task.curve_label(figure.column)
        )
        text = curves_caption(curves, figure.column, figure.band, decided=self.decided)
        if not figure.rows and len(rows) < len(self.rows):
            every = number_of(len(self.rows), "row")
            text += f" The first {len(rows)} of {every}; the figure's `rows` chooses others."
        return drawing, text + self._absent([curve.row for curve in curves], rows)

    def heatmap(self, figure: HeatmapFigure) -> tuple["Drawing", str]:
        heatmap = numbers.heatmap_of(self.rows, figure)
        if not any(cell for row in heatmap.cells for cell in row):
            raise NothingToDrawError("no run is finished, so there is no number to show")
        named = replace(heatmap, down=self._names(heatmap.down), across=self._names(heatmap.across))
        names = self.report.names
        down, across = (names.get(factor, draw.factor_label(factor)) for factor in figure.factors)
        drawing = draw.draw_heatmap(named, (down, across), self._metric(figure), self.report.digits)
        seeds = counted([cell[1] for row in heatmap.cells for cell in row if cell])
        lost = listed([self.labels[name] for name in heatmap.left_out])
        out = f" Without these factors, so not shown: {lost}." if lost else ""
        return drawing, f"{self._metric(figure).header}, mean over {seeds}; n/a: no run.{out}"

    def _names(self, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.report.names.get(value, value) for value in values)

    def forest(self, figure: ForestFigure) -> tuple["Drawing", str]:
        if self.ablation.baseline is None:
            raise SpecError(f"a forest needs a baseline; name one in {self.ablation.name} or in the report")
        baseline = baseline_name(self.report, self.ablation)
        if all(row.is_baseline for row in self.rows):
            raise NothingToDrawError(f"every row is the baseline {baseline!r}, so there is no difference")
        comparisons = self.ablation.num_compared
        differences = numbers.forest_differences(
            self.rows,
            figure.metric,
            comparisons,
            decided=self.decided,
            planned_seeds=self.report.planned_seeds,
            together=self.report.intervals == "simultaneous",
        )
        if not differences:
            raise NothingToDrawError("no row has a seed in common with the baseline")
        drawing = draw.draw_forest(differences, self.looks, self.labels, self._metric(figure), baseline)
        kind = interval_words(self.report, comparisons)
        if self.decided:
            kind = f"{interval_name(self.report)}, which holds for all rows at once"
        limit = limit_words(self.report) if self.decided else ""
        text = forest_caption([value for _, value in differences], baseline, kind, limit)
        if not all(item.clean_pair for row in self.rows for item in row.cells):
            text += f" Not all pairs are clean: {PAIR_LABELS} differ."
        drawn_rows = [name for name, _ in differences] + [row.name for row in self.rows if row.is_baseline]
        return drawing, text + self._absent(drawn_rows)

    def ranks(self, figure: CriticalDifferenceFigure) -> tuple["Drawing", str]:
        if self.decided:
            rule = "a rank needs a number of seeds that was fixed beforehand"
            raise SpecError(f"{rule}, and this report has seeds: decided")
        data = by_data(self.report, [rows for _, rows in self.sections])
        ranked = ranks_of(data, figure, self._metric(figure).sign)
        methods = {name: row.cells[0].cell for rows in data.values() for name, row in rows.items()}
        test = {"nemenyi": "Nemenyi's test", "wilcoxon": "Wilcoxon's signed-rank test with Holm's correction"}
        text = (
            f"Average ranks by {self._metric(figure).header} on {ranked.datasets} data sets (1 is best; "
            f"means over {counted(ranked.seeds)}). Friedman's test: p = {ranked.friedman_p:.2g}. "
        )
        if ranked.friedman_p >= figure.alpha:
            text += "It finds no difference, so no pair was tested, and one bar joins all methods."
        elif ranked.groups:
            text += f"Bars join methods that {test[figure.test]} cannot tell apart at {figure.alpha:g}."
        else:
            text += f"{test[figure.test]} tells all pairs apart at {figure.alpha:g}."
        if ranked.dropped:
            text += f" Left out, since a method has no run there: {dropped_text(ranked.dropped)}."
        if self.report.kind != "datasets":
            return draw.draw_ranks(ranked, self._names(ranked.methods)), text
        names = [display_name(self.report, methods[name]) for name in ranked.methods]
        return draw.draw_ranks(ranked, names), text

    def precision(self, figure: PrecisionRecallFigure) -> tuple["Drawing", str]:
        curves = predictions.precision_curves(self.rows, self.analyses, figure, decided=self.decided)
        if not curves:
            raise NothingToDrawError("no run is finished, so there is no curve")
        drawing = draw_predictions.draw_precision(curves, self.looks, self.labels, figure.iou)
        text = precision_caption(curves, figure, decided=self.decided)
        return drawing, text + self._absent([curve.row for curve in curves])

    def confusion(self, figure: ConfusionFigure) -> tuple["Drawing", str]:
        found = predictions.confusion_of(self.rows, self.analyses, figure)
        if found is None:
            row = self.labels[figure.row or self.rows[0].name]
            raise NothingToDrawError(f"no run of {row} is finished, so there is nothing to count")
        drawing = draw_predictions.draw_confusion(found, self._names(found.names))
        return drawing, confusion_caption(found, figure, self.labels[found.row])

    def dots(self, figure: SizesFigure | ClassesFigure) -> tuple["Drawing", str]:
        metrics = self.report.task.metrics
        if isinstance(figure, ClassesFigure):
            metric = metrics[figure.metric]
            dots = predictions.class_dots(self.rows, self.analyses, figure, metric, decided=self.decided)
            counted = "boxes" if self.report.task.analyses("curves") else "images"
            what = f"{metric.header} by class, with the number of its {counted}"
        else:
            metric = metrics["map"]
            dots = predictions.size_dots(self.rows, decided=self.decided)
            what = f"{metric.header} by size of the boxes"
        if not dots.rows:
            raise NothingToDrawError("no run is finished, so there is no number to show")
        drawing = draw_predictions.draw_dots(dots, self.looks, self.labels, metric.header)
        return drawing, dots_caption(dots, what, decided=self.decided) + self._absent(dots.rows)

    def _absent(self, drawn_rows: Sequence[str], rows: Sequence[Row] | None = None) -> str:
        """Name the rows without numbers, among those that a figure was to show."""
        chosen = self.rows if rows is None else rows
        absent = [self.labels[row.name] for row in chosen if row.name not in drawn_rows]
        return f" Not shown for want of numbers: {listed(absent)}." if absent else ""

    def run_sentences(self) -> list[str]:
        """Return caption sentences on missing and stale runs."""
        sentences = []
        total = sum(len(row.cells) for row in self.rows)
        if missing := self._counted(lambda item: item.record is None):
            number = sum(missing.values())
            runs = f"{number} of {number_of(total, 'run')} {are(number)}"
            sentences.append(f"{runs} not there: {_named(missing)}.")
        if stale := self._counted(lambda item: bool(item.stale)):
            number = sum(stale.values())
            runs = f"{number} of {number_of(total, 'run')} {are(number)}"
            sentences.append(f"{runs} stale (the source has changed): {_named(stale)}.")
        return sentences

    def _counted(self, holds: Callable[[Measured], bool]) -> Counter[str]:
        """Count the runs that satisfy a predicate by row label, since ablations may share row names."""
        return Counter(self.labels[row.name] for row in self.rows for item in row.cells if holds(item))


def _named(counts: Counter[str]) -> str:
    return listed([f"{name} ({count})" for name, count in counts.items()])
