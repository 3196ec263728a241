"""Numbers of the figures that show stored predictions: curves, confusions, and points by class or size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.errors import SpecError
from ema_lab.measured.analysis import Analyses, class_counts, class_rows
from ema_lab.measured.selection import Row
from ema_lab.registry.registry import unknown_name
from ema_lab.reports.figures.numbers import band_of, mean_interval
from ema_lab.specs.class_names import class_names
from ema_lab.specs.figure import SIZES, ClassesFigure, ConfusionFigure, PrecisionRecallFigure
from ema_lab.specs.metric import Metric
from ema_lab.statistics import PairedDifference

BACKGROUND = "background"
MISSED, FALSE_ALARMS = "missed", "false alarms"


@dataclass(frozen=True)
class PrecisionCurve:
    """Row's mean precision (percent) at the recalls 0, 1, ..., 100 %, its band, and the area below.

    Bounds are NaN without a band. `average` is the mean over seeds of the average precision in percent.
    """

    row: str
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    average: PairedDifference


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of a row: truth down, prediction across.

    Attributes:
        row: Name of the row.
        names: Names of the classes; the last is the background for detections.
        counts: Counts over all seeds.
        seeds: Number of seeds.
    """

    row: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    seeds: int

    @property
    def has_background(self) -> bool:
        """Whether the matrix is of detections."""
        return self.names[-1] == BACKGROUND

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """Counts in percent of their row; 0 in a row without any."""
        return tuple(tuple(100 * count / max(1, sum(row)) for count in row) for row in self.counts)


@dataclass(frozen=True)
class Dots:
    """Points by group, such as a class: each row's mean over its seeds."""

    groups: tuple[str, ...]
    values: tuple[Mapping[str, PairedDifference], ...]

    @property
    def rows(self) -> list[str]:
        """The rows that have any point."""
        return list(dict.fromkeys(row for values in self.values for row in values))


def matrix_names(confusion: Confusion, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names down, with the counts of the rows, and across; the background has a name each way."""
    down, across = list(names), list(names)
    if confusion.has_background:
        down[-1], across[-1] = FALSE_ALARMS, MISSED
    totals = [sum(row) for row in confusion.counts]
    return [f"{name} ({total:,})" for name, total in zip(down, totals, strict=True)], across


def classes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the names of the classes that all rows share.

    Raises:
        SpecError: If the rows have data sets with different classes.
    """
    listed = list(dict.fromkeys(class_names(item.cell.spec.data) for row in rows for item in row.cells))
    if len(listed) > 1:
        raise SpecError("the rows have data sets with different classes; choose one with `only`")
    return listed[0]


def _chosen(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    for name in wanted:
        if name not in names:
            raise SpecError(unknown_name("class", name, names))
    return [names.index(name) for name in wanted] if wanted else list(range(len(names)))


def precision_curves(
    rows: Sequence[Row], analyses: Analyses, figure: PrecisionRecallFigure, *, decided: bool = False
) -> list[PrecisionCurve]:
    """Return a curve for every row with a finished run; `decided`: see `mean_interval`.

    Raises:
        SpecError: If the figure names a class that the data set lacks.
    """
    chosen = _chosen(figure.classes, classes_of(rows))
    curves = []
    for row in rows:
        by_seed = []
        for item in row.cells:
            found = analyses.of(item.cell.spec, item.record, "curves", {"iou": figure.iou})
            curves_by_class = [found["precision"][cls] for cls in chosen] if found else []
            known = [curve for curve in curves_by_class if curve[0] is not None]
            if known:
                by_seed.append([sum(values) / len(known) for values in zip(*known, strict=True)])
        if by_seed:
            bands = [band_of(values, figure.band, decided=decided) for values in zip(*by_seed, strict=True)]
            means, lows, highs = zip(*bands, strict=True)
            average = mean_interval([sum(curve) / len(curve) for curve in by_seed], decided=decided)
            curves.append(PrecisionCurve(row.name, means, lows, highs, average))
    return curves


def confusion_of(rows: Sequence[Row], analyses: Analyses, figure: ConfusionFigure) -> Confusion | None:
    """Return the confusion matrix of a row over its finished seeds; None before any.

    Raises:
        SpecError: If the figure names a row that the report does not show.
    """
    by_name = {row.name: row for row in rows}
    if figure.row and figure.row not in by_name:
        raise SpecError(unknown_name("row", figure.row, by_name))
    row = by_name[figure.row or rows[0].name]
    names = classes_of([row])
    settings = {"score": figure.score, "iou": figure.iou}
    found = [analyses.of(item.cell.spec, item.record, "confusion", settings) for item in row.cells]
    matrices = [entry["counts"] for entry in found if entry is not None]
    if not matrices:
        return None
    total = tuple(tuple(map(sum, zip(*lines, strict=True))) for lines in zip(*matrices, strict=True))
    if len(total) > len(names):
        names = (*names, BACKGROUND)
    return Confusion(row.name, names, total, len(matrices))


def size_dots(rows: Sequence[Row], *, decided: bool = False) -> Dots:
    """Return each row's average precision of small, medium and large boxes."""
    values = [
        {row.name: mean_interval(found, decided=decided) for row in rows if (found := row.values(name))}
        for name in SIZES
    ]
    areas = {"small": "small (< 32² px)", "medium": "medium", "large": "large (> 96² px)"}
    return Dots(tuple(areas[name.rpartition("_")[2]] for name in SIZES), tuple(values))


def class_dots(
    rows: Sequence[Row],
    analyses: Analyses,
    figure: ClassesFigure,
    metric: Metric,
    *,
    decided: bool = False,
) -> Dots:
    """Return each row's metric by class; a group is named by the class and its number of boxes or images.

    Raises:
        SpecError: If the figure names a class that the data set lacks.
    """
    names = classes_of(rows)
    counts = class_counts(analyses, rows, metric.protocol)
    by_class = class_rows(analyses, rows, figure.metric, metric.protocol)
    groups, values = [], []
    for cls in _chosen(figure.classes, names):
        groups.append(names[cls] if counts is None else f"{names[cls]} ({counts[cls]:,})")
        own = {row.name: row.values(figure.metric) for row in by_class[cls]}
        values.append({name: mean_interval(found, decided=decided) for name, found in own.items() if found})
    return Dots(tuple(groups), tuple(values))
