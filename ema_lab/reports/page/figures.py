"""Data of the figures that a page draws from stored predictions, equal to those of the figures' files."""

import math
from collections.abc import Sequence
from typing import Any

from ema_lab.measured.analysis import Analyses
from ema_lab.measured.selection import Row
from ema_lab.reports.figures import predictions
from ema_lab.reports.figures.captions import confusion_caption, dots_caption, precision_caption
from ema_lab.reports.figures.percent import band_note, bar_note
from ema_lab.reports.row_order import row_labels
from ema_lab.specs.figure import ClassesFigure, ConfusionFigure, PrecisionRecallFigure, SizesFigure
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import PairedDifference
from ema_lab.store.store import RunStore


def page_figures(spec: ReportSpec, rows: Sequence[Row], store: RunStore) -> list[dict[str, Any]]:
    """Return each figure of stored predictions that has numbers: kind, title, caption and numbers.

    Args:
        spec: The report, with its task.
        rows: The rows that it shows.
        store: Store of the runs.
    """
    kinds = (PrecisionRecallFigure, ConfusionFigure, SizesFigure, ClassesFigure)
    shown = [figure for figure in spec.figures if isinstance(figure, kinds)]
    if not shown or not rows:
        return []
    page = _Figures(spec, rows, store)
    drawn = ((figure, page.numbers(figure)) for figure in shown)
    return [
        {"kind": figure.kind, "title": figure.title or figure.name, **numbers}
        for figure, numbers in drawn
        if numbers
    ]


class _Figures:
    """Numbers of one report's figures."""

    def __init__(self, spec: ReportSpec, rows: Sequence[Row], store: RunStore) -> None:
        self.spec, self.rows = spec, rows
        self.labels = row_labels(spec, rows)
        self.decided = spec.is_decided
        self._store = store

    def numbers(
        self, figure: PrecisionRecallFigure | ConfusionFigure | SizesFigure | ClassesFigure
    ) -> dict[str, Any]:
        """Return the numbers of a figure; empty before any run."""
        if isinstance(figure, SizesFigure):
            metric = self.spec.task.metrics["map"]
            return self._dots(
                predictions.size_dots(self.rows, decided=self.decided),
                metric.header,
                f"{metric.header} by size of the boxes",
            )
        analyses = Analyses(self._store, self.spec.task)
        if isinstance(figure, PrecisionRecallFigure):
            return self._precision(figure, analyses)
        if isinstance(figure, ConfusionFigure):
            return self._confusion(figure, analyses)
        metric = self.spec.task.metrics[figure.metric]
        dots = predictions.class_dots(self.rows, analyses, figure, metric, decided=self.decided)
        return self._dots(dots, metric.header, f"{metric.header} by class")

    def _precision(self, figure: PrecisionRecallFigure, analyses: Analyses) -> dict[str, Any]:
        curves = predictions.precision_curves(self.rows, analyses, figure, decided=self.decided)
        if not curves:
            return {}
        return {
            "caption": precision_caption(curves, figure, decided=self.decided) + band_note(curves),
            "across": f"Recall (%) at an IoU of {figure.iou:g} or more",
            "up": "Precision (%)",
            "curves": [
                {
                    "row": curve.row,
                    "average": _number(curve.average.mean),
                    **{key: [_number(v) for v in getattr(curve, key)] for key in ("mean", "low", "high")},
                }
                for curve in curves
            ],
        }

    def _confusion(self, figure: ConfusionFigure, analyses: Analyses) -> dict[str, Any]:
        found = predictions.confusion_of(self.rows, analyses, figure)
        if found is None:
            return {}
        down, across = predictions.matrix_names(
            found, [self.spec.names.get(name, name) for name in found.names]
        )
        return {
            "caption": confusion_caption(found, figure, self.labels[found.row]),
            "down": down,
            "names": across,
            "counts": [list(row) for row in found.counts],
        }

    def _dots(self, dots: predictions.Dots, header: str, what: str) -> dict[str, Any]:
        if not dots.rows:
            return {}
        values = [value for group in dots.values for value in group.values()]
        return {
            "caption": dots_caption(dots, what, decided=self.decided)
            + (bar_note(values) if header.endswith("%)") else ""),
            "across": header,
            "groups": list(dots.groups),
            "points": [{row: _point(value) for row, value in values.items()} for values in dots.values],
        }


def _point(value: PairedDifference) -> list[float | None]:
    """Return mean and bounds; bounds are None without an interval."""
    bounds = (value.low, value.high) if value.has_interval else (math.nan, math.nan)
    return [_number(number) for number in (value.mean, *bounds)]


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
