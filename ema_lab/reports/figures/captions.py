"""Captions of figures, written from the numbers that the figures show."""

import math
from collections.abc import Sequence

from ema_lab.reports.figures.numbers import Curve, Point
from ema_lab.reports.figures.predictions import Confusion, Dots, PrecisionCurve
from ema_lab.specs.figure import ConfusionFigure, PrecisionRecallFigure
from ema_lab.statistics import PairedDifference
from ema_lab.wording import number_of

MOST_NAMED = 5
PARETO = "dashed: the Pareto front of the means"
FIXED = ", for this test set"  # of an interval over seeds: other test images would add to it
BANDS = {"std": "± sample standard deviation", "interval": "95 % t interval", "range": "from least to most"}
WITHOUT = (
    ", without intervals: seeds were added until each comparison with the baseline was decided, and a t "
    "interval would be too narrow"
)


def tradeoff_caption(values: Sequence[PairedDifference], *, decided: bool, is_within: bool = False) -> str:
    """Describe a trade-off's points and bars."""
    seeds = counted([value.count for value in values])
    bars = "95 % within-seed interval (Cousineau and Morey)" if is_within else "95 % t interval"
    mean = f"Mean and {bars}" if any(value.has_interval for value in values) else "Mean"
    scope = WITHOUT if decided else _scope(values)
    text = f"{mean} over {seeds} of each row{scope}; {PARETO}."
    if is_within:
        text += " Bars leave out what differs between seeds in all rows alike."
    text += _lone(values)
    return text if decided else text + hollow_note(values)


def differences_caption(points: Sequence[Point], baseline: str, kind: str) -> str:
    """Describe a trade-off of paired differences to the baseline."""
    values = [point.value for point in points if not point.is_reference]
    text = f"Mean paired difference to {baseline!r}, which is at zero"
    if values:
        text += f", over {counted([value.count for value in values])} in common"
    if any(value.has_interval for value in values):
        text += f", with its {kind}{FIXED}"
    return f"{text}; {PARETO}.{_lone([point.value for point in points])}{hollow_note(values)}"


def _lone(values: Sequence[PairedDifference]) -> str:
    counts = [value.count for value in values]
    return " A row with one seed is not on it." if min(counts) == 1 < max(counts) else ""


def forest_caption(values: Sequence[PairedDifference], baseline: str, kind: str, limit: str = "") -> str:
    """Describe a forest's points and bars.

    Args:
        values: The differences.
        baseline: Display name of the baseline.
        kind: Name of the intervals.
        limit: Limit of the seeds, if they were added until a decision.
    """
    text = (
        f"Mean paired difference to {baseline!r} over {counted([value.count for value in values])} in common"
    )
    if limit:
        text += f", which were added until it was decided ({limit})"
    if any(value.has_interval for value in values):
        text += f", with its {kind}{FIXED}"
    return f"{text}.{hollow_note(values, 'too few seeds' if limit else 'one seed')}"


def hollow_note(values: Sequence[PairedDifference], few: str = "one seed") -> str:
    """Explain hollow points, if the figure has any."""
    return (
        ""
        if all(value.has_interval for value in values)
        else f" Hollow: no interval ({few}, or equal values)."
    )


def curves_caption(curves: Sequence[Curve], column: str, band: str, *, decided: bool) -> str:
    """Describe the curves of a column: the number of seeds, and the bands."""
    text = f"Mean over {counted([count for curve in curves for count in curve.counts])}"
    lows = [low for curve in curves for low in curve.low]
    if decided and band == "interval":
        return f"{text}{WITHOUT}."
    if all(map(math.isnan, lows)):
        return f"{text}."
    text += f"; band: {BANDS[band]} over seeds"
    if any(map(math.isnan, lows)):
        text += ", none where one seed alone has a value" + (
            ", or all are equal" if band == "interval" else ""
        )
    split = column.partition("_")[0]
    return f"{text}{FIXED.replace('test', split) if split in {'test', 'val'} else ''}."


def precision_caption(
    curves: Sequence[PrecisionCurve], figure: PrecisionRecallFigure, *, decided: bool
) -> str:
    """Describe precision-recall curves: protocol, classes, seeds and band."""
    of = f"the classes {', '.join(figure.classes)}" if figure.classes else "all classes that have boxes"
    text = (
        f"Precision at each recall by the coco protocol, at an IoU of {figure.iou:g} or more: the mean over "
        f"{of}, then over {counted([curve.average.count for curve in curves])}; in brackets the area below, "
        f"which is AP{100 * figure.iou:.0f} in percent"
    )
    if all(math.isnan(low) for curve in curves for low in curve.low):
        return f"{text}{WITHOUT if decided and figure.band == 'interval' else ''}."
    return f"{text}; band: {BANDS[figure.band]} over seeds{FIXED}."


def confusion_caption(confusion: Confusion, figure: ConfusionFigure, label: str) -> str:
    """Describe a confusion matrix: the matching of detections, and the base of a row's percentages."""
    seeds = f"n={number_of(confusion.seeds, 'seed')}"
    text = f"{label}, summed over {seeds}. "
    if not confusion.has_background:
        return f"{text}Each row: percent of the images of that class (their number in brackets)."
    return (
        f"{text}Detections with a score of {figure.score:g} or more take, by falling score, the free box of "
        f"any class with the greatest IoU of at least {figure.iou:g}. Each row: percent of the boxes of that "
        "class (their number in brackets), or of the false alarms, which took no box; missed: boxes that "
        "no detection took."
    )


def dots_caption(dots: Dots, what: str, *, decided: bool) -> str:
    """Describe points by class or by size and their bars."""
    values = [value for group in dots.values for value in group.values()]
    mean = "Mean and 95 % t interval" if any(value.has_interval for value in values) else "Mean"
    scope = WITHOUT if decided else _scope(values)
    text = f"{what}. {mean} over {counted([value.count for value in values])}{scope}."
    empty = [name for name, group in zip(dots.groups, dots.values, strict=True) if not group]
    if empty:
        text += f" Without any box: {listed(empty)}."
    return text if decided else text + hollow_note(values)


def _scope(values: Sequence[PairedDifference]) -> str:
    """Return the remark that intervals hold for the fixed test set; empty without an interval."""
    return FIXED if any(value.has_interval for value in values) else ""


def counted(counts: Sequence[int]) -> str:
    """Return `n=3 seeds`, or `n=1 to 3 seeds`."""
    least, most = min(counts), max(counts)
    if least == most:
        return f"n={number_of(most, 'seed')}"
    return f"n={least} to {number_of(most, 'seed')}"


def listed(names: Sequence[str]) -> str:
    """Return `a, b, c`, or the first names and the number of the others."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
