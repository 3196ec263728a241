"""Schema of a report's figures."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from ema_lab.specs.strict import Spec, problem
from ema_lab.specs.task import Analysis, MetricName, TaskDescription


def _iou(value: float) -> float:
    """Check that COCO evaluates at an IoU threshold, and return it rounded."""
    if not (0.5 <= value <= 0.95 and math.isclose(20 * value, round(20 * value), abs_tol=1e-6)):
        raise problem(f"must be one of 0.5, 0.55, ..., 0.95, got {value}")
    return round(value, 2)


Iou = Annotated[float, AfterValidator(_iou)]
RowNames = Annotated[tuple[str, ...], Strict(False)]
ClassNames = Annotated[tuple[str, ...], Strict(False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


def _size(size: tuple[float, ...]) -> tuple[float, ...]:
    """Check a width and a height in inches."""
    if size and (len(size) > 2 or not all(2 <= side <= 20 for side in size)):
        written = ", ".join(f"{side:g}" for side in size)
        raise problem(f"must be [WIDTH] or [WIDTH, HEIGHT] in inches, each from 2 to 20, got [{written}]")
    return size


Size = Annotated[tuple[float, ...], Strict(False), AfterValidator(_size)]
Legend = Literal["below", "none"]
Bar = Literal["beside", "none"]


class _Figure(Spec):
    """Keys of every figure. `name` names its files. `metric` defaults to the task's primary metric.

    Attributes:
        name: Name of the figure's files.
        title: Title; the report's by default.
        size: Width, or width and height, in inches: `[3.3]` is a column of a paper, `[6.9]` its page. By
            default a column, as high as needed.
        font: Size of the axis labels in points; all other texts follow it.
    """

    name: Name
    title: str = ""
    size: Size = ()
    font: Annotated[float, Field(ge=5, le=20)] = 7.5


class TradeoffFigure(_Figure):
    """Scatter of a metric against a cost: one point per row, its 95 % interval, and the Pareto front.

    The intervals are within seeds: they leave out what differs between seeds in all rows alike. With
    `seeds: decided` means have no intervals, because the number of seeds depends on the results.

    Attributes:
        kind: The constant `tradeoff`.
        metric: Metric on the vertical axis; the task's primary metric by default.
        cost: Cost on the horizontal axis.
        difference: Whether the vertical axis is the paired difference to the baseline.
        rows: Names of the rows to show; all by default.
        legend: `labels` puts names at the points, or numbers that a legend explains where names have no
            room; `below` names the rows in a legend; `none` does neither.
    """

    kind: Literal["tradeoff"]
    metric: MetricName = ""
    cost: Literal["macs", "parameters", "latency"] = "macs"
    difference: bool = False
    rows: RowNames = ()
    legend: Literal["labels", "below", "none"] = "labels"


class CurvesFigure(_Figure):
    """Curves of one column of curve.csv over the epochs: mean over seeds with a band.

    `band`: sample standard deviation over seeds, 95 % t interval, or range.

    Attributes:
        kind: The constant `curves`.
        column: Column of curve.csv, such as train_loss or val_top1.
        band: Band around the mean: sample standard deviation over seeds, 95 % t interval, or range.
        difference: Whether to show the paired difference to the baseline by epoch.
        facets: Whether each row has axes of its own, with the baseline in grey.
        rows: Names of the rows to show, eight at most without facets; by default the first eight, the
            baseline among them, or all rows with facets.
        legend: Place of the legend; facets have none.
    """

    kind: Literal["curves"]
    column: str = "train_loss"
    band: Literal["std", "interval", "range"] = "std"
    difference: bool = False
    facets: bool = False
    rows: RowNames = ()
    legend: Legend = "below"


class HeatmapFigure(_Figure):
    """Heat map of a metric's mean over two factors: `factors[0]` down, `factors[1]` across.

    Attributes:
        kind: The constant `heatmap`.
        factors: Key of the rows and key of the columns.
        metric: Metric of the cells; the task's primary metric by default.
        rows: Names of the rows to show; all by default.
        legend: Place of the colour bar.
    """

    kind: Literal["heatmap"]
    factors: Annotated[tuple[str, str], Strict(False)]
    metric: MetricName = ""
    rows: RowNames = ()
    legend: Bar = "beside"


class ForestFigure(_Figure):
    """Forest plot of paired differences to the baseline, with t intervals.

    With `seeds: decided` the intervals hold at every number of seeds.

    Attributes:
        kind: The constant `forest`.
        metric: Compared metric; the task's primary metric by default.
        rows: Names of the rows to show; all by default. Corrections count every compared row all the same.
    """

    kind: Literal["forest"]
    metric: MetricName = ""
    rows: RowNames = ()


class CriticalDifferenceFigure(_Figure):
    """Critical-difference diagram: average ranks over data sets, linked where no test separates them.

    Attributes:
        kind: The constant `critical_difference`.
        metric: Ranked metric; the task's primary metric by default.
        test: Test of pairs after Friedman's.
        alpha: Level of the tests.
        rows: Names of the methods to rank; all by default. Ranks and tests are among them alone.
    """

    kind: Literal["critical_difference"]
    metric: MetricName = ""
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    rows: RowNames = ()


class PrecisionRecallFigure(_Figure):
    """Precision-recall curves of each row: mean over the classes, then over seeds, with a band.

    Attributes:
        kind: The constant `precision_recall`.
        iou: IoU from which a detection finds a box: 0.5, 0.55, ..., 0.95.
        classes: Names of the classes to average; all by default.
        band: Sample standard deviation over seeds, 95 % t interval, or range.
        rows: Names of the rows to show; by default the first eight, the baseline among them.
        legend: Place of the legend.
    """

    kind: Literal["precision_recall"]
    iou: Iou = 0.5
    classes: ClassNames = ()
    band: Literal["std", "interval", "range"] = "std"
    rows: RowNames = ()
    legend: Legend = "below"


class ConfusionFigure(_Figure):
    """Confusion matrix of one row, summed over its seeds; for detections with the background.

    Attributes:
        kind: The constant `confusion`.
        row: The row; by default the first of the report.
        score: Least score of a detection that counts; for detections only.
        iou: Least IoU of a detection with the box that it takes; for detections only.
        legend: Place of the colour bar.
    """

    kind: Literal["confusion"]
    row: str = ""
    score: Annotated[float, Field(gt=0, le=1)] = 0.25
    iou: Annotated[float, Field(gt=0, lt=1)] = 0.5
    legend: Bar = "beside"


class SizesFigure(_Figure):
    """Average precision of small, medium and large boxes: one point per row, with its 95 % t interval.

    Attributes:
        kind: The constant `sizes`.
        rows: Names of the rows to show; all by default.
        legend: Place of the legend.
    """

    kind: Literal["sizes"]
    rows: RowNames = ()
    legend: Legend = "below"


class ClassesFigure(_Figure):
    """A metric of each class: one point per row, with its 95 % t interval.

    `classes` names the classes to show, in this order; all by default.

    Attributes:
        kind: The constant `classes`.
        metric: Metric of each class; the task's primary metric by default.
        classes: Names of the classes to show, in this order; all by default.
        rows: Names of the rows to show; by default the first eight, the baseline among them.
        legend: Place of the legend.
    """

    kind: Literal["classes"]
    metric: MetricName = ""
    classes: ClassNames = ()
    rows: RowNames = ()
    legend: Legend = "below"


Figure = Annotated[
    TradeoffFigure
    | CurvesFigure
    | HeatmapFigure
    | ForestFigure
    | CriticalDifferenceFigure
    | PrecisionRecallFigure
    | ConfusionFigure
    | SizesFigure
    | ClassesFigure,
    Field(discriminator="kind"),
]
FIGURE_KINDS = (
    *("tradeoff", "curves", "heatmap", "forest", "critical_difference"),
    *("precision_recall", "confusion", "sizes", "classes"),
)
ANALYSES: Mapping[str, Analysis] = {  # of stored predictions, by kind of figure
    "precision_recall": "curves",
    "confusion": "confusion",
    "classes": "classes",
}
SIZES = ("map_small", "map_medium", "map_large")


def figure_problem(figure: _Figure, task: TaskDescription) -> str | None:
    """Return why a figure cannot be drawn for a task; None if it can."""
    kind: str = getattr(figure, "kind", "")
    if kind in ANALYSES and not task.analyses(ANALYSES[kind]):
        return f"the kind {kind} needs predictions that the task {task.name} does not have"
    if isinstance(figure, SizesFigure) and not set(SIZES) <= task.metrics.keys():
        return f"the kind sizes needs the metrics {', '.join(SIZES)}, which the task {task.name} lacks"
    if isinstance(figure, ConfusionFigure) and not task.analyses("curves"):
        for key in {"score", "iou"} & figure.model_fields_set:
            return f"{key} changes nothing for the task {task.name}: its predictions are no boxes"
    return None
