"""Drawings of a report's figures with their captions, from specs and records."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.measured.analysis import Analyses
from ema_lab.measured.family import family_of
from ema_lab.measured.selection import PAIR_LABELS, Measured, Row, select_rows
from ema_lab.registry.registry import unknown_name
from ema_lab.reports.figures import draw, draw_curves, draw_predictions, draw_tradeoff, numbers, predictions
from ema_lab.reports.figures.captions import (
    confusion_caption,
    counted,
    curves_caption,
    differences_caption,
    dots_caption,
    forest_caption,
    listed,
    precision_caption,
    tradeoff_caption,
)
from ema_lab.reports.figures.numbers import NothingToDrawError
from ema_lab.reports.figures.percent import band_note, bar_note, cut_band, cut_bar, cut_dots
from ema_lab.reports.figures.ranks import by_data, dropped_text, hidden_by_data, ranks_of
from ema_lab.reports.figures.style import (
    COLUMN_INCHES,
    Form,
    looks_of,
)
from ema_lab.reports.naming import baseline_name, display_name
from ema_lab.reports.row_order import modules_of, row_labels
from ema_lab.reports.table.notes import chosen_seed_notes, interval_words
from ema_lab.reports.table.pooled import pooled_family
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
from ema_lab.statistics import PairedDifference
from ema_lab.store.store import RunStore
from ema_lab.wording import are, number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

MOST_CURVES = 8  # more cannot be told apart
_WithRows = CurvesFigure | PrecisionRecallFigure | ClassesFigure | SizesFigure


def form_of(figure: Figure) -> Form:
    """Return the size, font and legend that a figure of a report asks for."""
    width, height = (*figure.size, None, None)[:2]
    return Form(width or COLUMN_INCHES, height, figure.font, getattr(figure, "legend", ""))


class Drawer:
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
        metric = self._metric(figure)
        if figure.difference:
            self._require_baseline("a figure of differences")
            compared = numbers.tradeoff_differences(
                rows, figure.metric, figure.cost, dict(self._differences(rows, figure.metric))
            )
            points, is_within = compared, False
        else:
            points, is_within = numbers.tradeoff_points(
                rows, figure.metric, figure.cost, decided=self.decided
            )
        if not points:
            hint = "; `ema-lab cost --latency` measures it" if figure.cost == "latency" else ""
            raise NothingToDrawError(f"no finished run has both {figure.metric} and {figure.cost}{hint}")
        baseline = baseline_name(self.report, self.ablation) if figure.difference else ""
        header = draw.difference_label(metric, baseline) if baseline else ""
        if metric.unit == "%" and not baseline:
            drawn = [replace(point, value=cut_bar(point.value)) for point in points]
        else:
            drawn = list(points)
        drawing = draw_tradeoff.draw_tradeoff(
            drawn, self.looks, self.labels, metric, figure.cost, form_of(figure), header
        )
        if baseline:
            text = differences_caption(points, baseline, self._interval_name())
        else:
            values = [point.value for point in points]
            text = tradeoff_caption(values, decided=self.decided, is_within=is_within)
            text += bar_note(values) if metric.unit == "%" else ""
        return drawing, text + self._absent([point.row for point in points], rows)

    def curves(self, figure: CurvesFigure) -> tuple["Drawing", str]:
        if not figure.facets and len(figure.rows) > MOST_CURVES:
            rule = f"{len(figure.rows)} curves cannot be told apart on one pair of axes"
            raise SpecError(f"rows: {rule}: name {MOST_CURVES} at most, or set facets: true")
        if figure.difference:
            self._require_baseline("a figure of differences")
        most = None if figure.facets else MOST_CURVES + figure.difference  # the baseline is no curve then
        rows = numbers.shown_rows(self.rows, figure.rows, most)
        of = numbers.curve_differences if figure.difference else numbers.curves_of
        curves = of(rows, self.store, figure, decided=self.decided)
        if not curves:
            raise NothingToDrawError(
                "no row has a curve and a seed in common with the baseline"
                if figure.difference
                else "no run is finished, so there is no curve"
            )
        label = self.report.task.curve_label(figure.column)
        text = curves_caption(curves, figure.column, figure.band, decided=self.decided)
        if figure.difference:
            baseline = baseline_name(self.report, self.ablation)
            label, text = f"Δ {label} vs {baseline}", f"Paired difference to {baseline!r}. {text}"
        elif label.endswith("%)"):
            text += band_note(curves)
            curves = [cut_band(curve) for curve in curves]
        if figure.facets:
            base = next(
                (curve for curve in curves for row in rows if row.is_baseline and row.name == curve.row), None
            )
            drawing = draw_curves.draw_facets(
                curves, base, self.looks, self.labels, label, form_of(figure), is_difference=figure.difference
            )
            text += f" Grey: {self.labels[base.row]}." if base and len(curves) > 1 else ""
        else:
            drawing = draw_curves.draw_curves(
                curves, self.looks, self.labels, label, form_of(figure), is_difference=figure.difference
            )
        text += self._first_rows(rows, figure, ", `facets` shows all")
        shown = [curve.row for curve in curves] + [
            row.name for row in rows if figure.difference and row.is_baseline
        ]
        return drawing, text + self._absent(shown, rows)

    def heatmap(self, figure: HeatmapFigure) -> tuple["Drawing", str]:
        heatmap = numbers.heatmap_of(numbers.shown_rows(self.rows, figure.rows), figure)
        if not any(cell for row in heatmap.cells for cell in row):
            raise NothingToDrawError("no run is finished, so there is no number to show")
        named = replace(heatmap, down=self._names(heatmap.down), across=self._names(heatmap.across))
        names = self.report.names
        down, across = (names.get(factor, draw.factor_label(factor)) for factor in figure.factors)
        drawing = draw.draw_heatmap(
            named, (down, across), self._metric(figure), self.report.digits, form_of(figure)
        )
        seeds = counted([cell[1] for row in heatmap.cells for cell in row if cell])
        lost = listed([self.labels[name] for name in heatmap.left_out])
        out = f" Without these factors, so not shown: {lost}." if lost else ""
        return drawing, f"{self._metric(figure).header}, mean over {seeds}; n/a: no run.{out}"

    def _names(self, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.report.names.get(value, value) for value in values)

    def forest(self, figure: ForestFigure) -> tuple["Drawing", str]:
        self._require_baseline("a forest")
        rows = numbers.shown_rows(self.rows, figure.rows)
        baseline = baseline_name(self.report, self.ablation)
        if all(row.is_baseline for row in rows):
            raise NothingToDrawError(f"every row is the baseline {baseline!r}, so there is no difference")
        differences = self._differences(rows, figure.metric)
        if not differences:
            raise NothingToDrawError("no row has a seed in common with the baseline")
        drawing = draw.draw_forest(
            differences, self.looks, self.labels, self._metric(figure), baseline, form_of(figure)
        )
        limit = limit_words(self.report) if self.decided else ""
        text = forest_caption([value for _, value in differences], baseline, self._interval_name(), limit)
        if not all(item.clean_pair for row in rows for item in row.cells):
            text += f" Not all pairs are clean: {PAIR_LABELS} differ."
        drawn_rows = [name for name, _ in differences] + [row.name for row in rows if row.is_baseline]
        return drawing, text + self._absent(drawn_rows, rows)

    def _require_baseline(self, what: str) -> None:
        if self.ablation.baseline is None:
            raise SpecError(f"{what} needs a baseline; name one in {self.ablation.name} or in the report")

    def _differences(self, rows: Sequence[Row], metric: str) -> list[tuple[str, PairedDifference]]:
        """Return the differences to the baseline of rows, corrected for all that the ablation compares."""
        if self.report.test == "pooled" and self.report.intervals == "simultaneous":
            family = family_of(select_rows(self.ablation, self.store), self.rows, rows)
            contrasts = pooled_family(metric, family).contrasts
            compared = [row.name for row in rows if not row.is_baseline and row.differences(metric)]
            return [(name, contrasts[name].interval(family.num_compared)) for name in compared]
        return numbers.forest_differences(
            rows,
            metric,
            self.ablation.num_compared,
            decided=self.decided,
            planned_seeds=self.report.planned_seeds,
            together=self.report.intervals == "simultaneous",
        )

    def _interval_name(self) -> str:
        if self.decided:
            return f"{interval_name(self.report)}, which holds for all rows at once"
        return interval_words(self.report, self.ablation.num_compared)

    def ranks(self, figure: CriticalDifferenceFigure) -> tuple["Drawing", str]:
        if self.decided:
            rule = "a rank needs a number of seeds that was fixed beforehand"
            raise SpecError(f"{rule}, and this report has seeds: decided")
        data = by_data(self.report, [rows for _, rows in self.sections])
        methods_there = {name: None for rows in data.values() for name in rows}
        for name in figure.rows:
            if name not in methods_there:
                raise SpecError(unknown_name("row", name, methods_there))
        hidden = hidden_by_data(self.report, self.sections, self.store)
        if figure.rows:
            for source, rows in data.items():
                others = {name: row for name, row in rows.items() if name not in figure.rows}
                hidden[source] = {**hidden.get(source, {}), **others}
                data[source] = {name: row for name, row in rows.items() if name in figure.rows}
        ranked = ranks_of(data, figure, self._metric(figure).sign, hidden)
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
        if len(methods) < ranked.compared:
            text += (
                f" Ranks and tests are among {ranked.compared} methods, of which {len(methods)} are shown."
            )
        if self.report.kind != "datasets":
            return draw.draw_ranks(ranked, self._names(ranked.methods), form_of(figure)), text
        names = [display_name(self.report, methods[name]) for name in ranked.methods]
        return draw.draw_ranks(ranked, names, form_of(figure)), text

    def precision(self, figure: PrecisionRecallFigure) -> tuple["Drawing", str]:
        rows = numbers.shown_rows(self.rows, figure.rows, MOST_CURVES)
        curves = predictions.precision_curves(rows, self.analyses, figure, decided=self.decided)
        if not curves:
            raise NothingToDrawError("no run is finished, so there is no curve")
        drawing = draw_predictions.draw_precision(
            [cut_band(curve) for curve in curves], self.looks, self.labels, figure.iou, form_of(figure)
        )
        text = precision_caption(curves, figure, decided=self.decided) + band_note(curves)
        text += self._first_rows(rows, figure)
        return drawing, text + self._absent([curve.row for curve in curves], rows)

    def confusion(self, figure: ConfusionFigure) -> tuple["Drawing", str]:
        found = predictions.confusion_of(self.rows, self.analyses, figure)
        if found is None:
            row = self.labels[figure.row or self.rows[0].name]
            raise NothingToDrawError(f"no run of {row} is finished, so there is nothing to count")
        drawing = draw_predictions.draw_confusion(found, self._names(found.names), form_of(figure))
        return drawing, confusion_caption(found, figure, self.labels[found.row])

    def dots(self, figure: SizesFigure | ClassesFigure) -> tuple["Drawing", str]:
        metrics = self.report.task.metrics
        most = MOST_CURVES if isinstance(figure, ClassesFigure) else None
        rows = numbers.shown_rows(self.rows, figure.rows, most)
        if isinstance(figure, ClassesFigure):
            metric = metrics[figure.metric]
            dots = predictions.class_dots(rows, self.analyses, figure, metric, decided=self.decided)
            counted = "boxes" if self.report.task.analyses("curves") else "images"
            what = f"{metric.header} by class, with the number of its {counted}"
        else:
            metric = metrics["map"]
            dots = predictions.size_dots(rows, decided=self.decided)
            what = f"{metric.header} by size of the boxes"
        if not dots.rows:
            raise NothingToDrawError("no run is finished, so there is no number to show")
        text = dots_caption(dots, what, decided=self.decided)
        if metric.unit == "%":
            text += bar_note([value for group in dots.values for value in group.values()])
            dots = cut_dots(dots)
        drawing = draw_predictions.draw_dots(dots, self.looks, self.labels, metric.header, form_of(figure))
        text += self._first_rows(rows, figure)
        return drawing, text + self._absent(dots.rows, rows)

    def _first_rows(self, rows: Sequence[Row], figure: _WithRows, more: str = "") -> str:
        """Return a sentence on the rows shown, if the figure names none and there are too many."""
        if figure.rows or len(rows) == len(self.rows):
            return ""
        every = number_of(len(self.rows), "row")
        return f" The first {len(rows)} of {every}; the figure's `rows` chooses others{more}."

    def _absent(self, drawn_rows: Sequence[str], rows: Sequence[Row] | None = None) -> str:
        """Return a sentence that names the requested rows without numbers."""
        chosen = self.rows if rows is None else rows
        absent = [self.labels[row.name] for row in chosen if row.name not in drawn_rows]
        return f" Not shown for want of numbers: {listed(absent)}." if absent else ""

    def run_sentences(self) -> list[str]:
        """Return caption sentences on missing and stale runs, and on seeds that `only` leaves out."""
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
        return [*sentences, *chosen_seed_notes([ablation for ablation, _ in self.sections], self.rows)]

    def _counted(self, holds: Callable[[Measured], bool]) -> Counter[str]:
        """Count the runs that satisfy a predicate by row label, since ablations may share row names."""
        return Counter(self.labels[row.name] for row in self.rows for item in row.cells if holds(item))


def _named(counts: Counter[str]) -> str:
    return listed([f"{name} ({count})" for name, count in counts.items()])
