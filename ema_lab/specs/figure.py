"""Schema of a report's figures."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from ema_lab.specs.strict import Spec
from ema_lab.specs.task import MetricName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class _Figure(Spec):
    """Keys of every figure. `name` names its files. `metric` defaults to the task's primary metric."""

    name: Name
    title: str = ""


class TradeoffFigure(_Figure):
    """Scatter of a metric against a cost: one point per row, its 95 % t interval, and the Pareto front.

    With `seeds: decided` the figure has no intervals, because the number of seeds depends on the results.
    """

    kind: Literal["tradeoff"]
    metric: MetricName = ""
    cost: Literal["macs", "parameters", "latency"] = "macs"


class CurvesFigure(_Figure):
    """Curves of one column of curve.csv over the epochs: mean over seeds with a band.

    `band`: sample standard deviation over seeds, 95 % t interval, or range.
    """

    kind: Literal["curves"]
    column: str = "train_loss"
    band: Literal["std", "interval", "range"] = "std"


class HeatmapFigure(_Figure):
    """Heat map of a metric's mean over two factors: `factors[0]` down, `factors[1]` across."""

    kind: Literal["heatmap"]
    factors: Annotated[tuple[str, str], Strict(False)]
    metric: MetricName = ""


class ForestFigure(_Figure):
    """Forest plot of paired differences to the baseline, with t intervals.

    With `seeds: decided` the intervals are always-valid.
    """

    kind: Literal["forest"]
    metric: MetricName = ""


class CriticalDifferenceFigure(_Figure):
    """Critical-difference diagram: average ranks over data sets, linked where no test separates them."""

    kind: Literal["critical_difference"]
    metric: MetricName = ""
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


Figure = Annotated[
    TradeoffFigure | CurvesFigure | HeatmapFigure | ForestFigure | CriticalDifferenceFigure,
    Field(discriminator="kind"),
]
FIGURE_KINDS = ("tradeoff", "curves", "heatmap", "forest", "critical_difference")
