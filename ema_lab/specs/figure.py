"""The form of a report's figures."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from ema_lab.specs.strict import Spec
from ema_lab.specs.task import MetricName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class _Figure(Spec):
    """Keys of every figure; `name` is that of its files. Without `metric` it shows the task's primary one."""

    name: Name
    title: str = ""


class TradeoffFigure(_Figure):
    """A metric against a cost: a point per row with its 95 % t interval, and the Pareto front.

    Where a report's seeds are `decided` there is no such interval: their number depends on what they showed.
    """

    kind: Literal["tradeoff"]
    metric: MetricName = ""
    cost: Literal["macs", "parameters", "latency"] = "macs"


class CurvesFigure(_Figure):
    """A column of the runs' curve.csv over the epochs: the mean over seeds and a band.

    `band`: the seeds' sample standard deviation, their 95 % t interval, or their range.
    """

    kind: Literal["curves"]
    column: str = "train_loss"
    band: Literal["std", "interval", "range"] = "std"


class HeatmapFigure(_Figure):
    """The mean of a metric over two factors, `factors[0]` down and `factors[1]` across."""

    kind: Literal["heatmap"]
    factors: Annotated[tuple[str, str], Strict(False)]
    metric: MetricName = ""


class ForestFigure(_Figure):
    """Paired differences to the baseline with the table's intervals: t, or always-valid of decided seeds."""

    kind: Literal["forest"]
    metric: MetricName = ""


class CriticalDifferenceFigure(_Figure):
    """Average ranks over the report's data sets, and what a test cannot tell apart."""

    kind: Literal["critical_difference"]
    metric: MetricName = ""
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


Figure = Annotated[
    TradeoffFigure | CurvesFigure | HeatmapFigure | ForestFigure | CriticalDifferenceFigure,
    Field(discriminator="kind"),
]
