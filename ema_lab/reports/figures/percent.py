"""Bounds of percentages: no bar and no band suggests a value below 0 or above 100 %."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from ema_lab.reports.figures.numbers import Curve
from ema_lab.reports.figures.predictions import Dots, PrecisionCurve
from ema_lab.statistics import PairedDifference

Band = TypeVar("Band", Curve, PrecisionCurve)


def cut_bar(value: PairedDifference) -> PairedDifference:
    """Return a value whose interval ends at 0 and 100; bounds that are NaN stay so."""
    return replace(value, low=max(value.low, 0.0), high=min(value.high, 100.0))


def cut_band(curve: Band) -> Band:
    """Return a curve whose band ends at 0 and 100; bounds that are NaN stay so."""
    low, high = (max(bound, 0.0) for bound in curve.low), (min(bound, 100.0) for bound in curve.high)
    return replace(curve, low=tuple(low), high=tuple(high))


def cut_dots(dots: Dots) -> Dots:
    """Return dots whose intervals end at 0 and 100."""
    groups = ({row: cut_bar(value) for row, value in group.items()} for group in dots.values)
    return replace(dots, values=tuple(groups))


def bar_note(values: Iterable[PairedDifference]) -> str:
    """Return a sentence on bars that end at 0 or 100 % though their intervals do not; "" without any."""
    return _note("Bars", ((value.low, value.high) for value in values))


def band_note(curves: Iterable[Curve | PrecisionCurve]) -> str:
    """Return a sentence on bands that end at 0 or 100 % though their numbers do not; "" without any."""
    return _note("Bands", (pair for curve in curves for pair in zip(curve.low, curve.high, strict=True)))


def _note(what: str, bounds: Iterable[tuple[float, float]]) -> str:
    known = list(bounds)  # a comparison with NaN is false
    ends = [
        end
        for end, is_passed in (
            ("0", any(low < 0 for low, _ in known)),
            ("100", any(high > 100 for _, high in known)),
        )
        if is_passed
    ]
    return f" {what} that pass {' or '.join(ends)} % are cut off there." if ends else ""
