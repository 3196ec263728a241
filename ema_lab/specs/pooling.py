"""Check of a report's key `test`: whether its tests can be pooled."""

from typing import TYPE_CHECKING

from ema_lab.specs.figure import ForestFigure

if TYPE_CHECKING:
    from ema_lab.specs.report import ReportSpec


def problem_of_pooling(report: "ReportSpec") -> str:
    """Return why the tests of a report cannot be pooled; empty if they can, or are not to be."""
    if report.test != "pooled":
        return ""
    if report.is_decided:
        return "pooled needs a fixed number of seeds: remove it, or use seeds: file"
    is_simultaneous = report.intervals == "simultaneous"
    if is_simultaneous and any(isinstance(figure, ForestFigure) for figure in report.figures):
        return "a forest has no pooled intervals: use intervals: each, or test: paired"
    is_tested = {"p", "equivalence"}.intersection(report.columns) or report.margin is not None
    return "" if report.rank or is_simultaneous or is_tested else "changes nothing without a test"
