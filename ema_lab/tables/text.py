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
        return f"{mean:+.{digits}f}"
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def p_text(p: float) -> str:
    """Format a p-value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def one_line(text: str) -> str:
    """Return text on one line: runs of white space become one space, invisible characters their escapes."""
    return escape_hidden(re.sub(r"\s+", " ", text), allowed="")
