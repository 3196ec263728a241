"""Formatting of numbers and text for tables."""

import re

from ema_lab.characters import escape_hidden
from ema_lab.statistics import PairedDifference


def difference_text(difference: PairedDifference, digits: int) -> str:
    """Format a mean difference and its interval, if any, all with signs."""
    if not difference.has_interval:
        return interval_text(difference.mean, None, None, digits)
    return interval_text(difference.mean, difference.low, difference.high, digits)


def interval_text(mean: float, low: float | None, high: float | None, digits: int) -> str:
    """Format a difference and the bounds of its interval, if any, all with signs."""
    if low is None or high is None:
        return number_text(mean, digits, "+")
    middle, least, greatest = (number_text(value, digits, "+") for value in (mean, low, high))
    return f"{middle} [{least}, {greatest}]"


def number_text(value: float, digits: int, form: str = "") -> str:
    """Format a number with `digits` decimals. One that is printed as zero has no sign: never -0.00.

    `form`: "+" prints the sign of other numbers, too, and "," separates thousands; "+," does both.
    """
    text = f"{value:{form}.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.,") else text


def p_text(p: float) -> str:
    """Format a p-value with three decimals; with more where it would else read 0.050 and is smaller."""
    if p < 0.001:
        return "< 0.001"
    digits = 3
    while p < 0.05 <= round(p, digits):
        digits += 1
    return f"{p:.{digits}f}"


def one_line(text: str) -> str:
    """Return text on one line: runs of white space become one space, invisible characters their escapes."""
    return escape_hidden(re.sub(r"\s+", " ", text), allowed="")
