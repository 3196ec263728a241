"""Numbers and words as a table prints them."""

import re

from ema_lab.characters import escape_hidden
from ema_lab.statistics import PairedDifference


def difference_text(difference: PairedDifference, digits: int) -> str:
    """Return a mean difference and its interval, where it has one, each with its sign."""
    if not difference.has_interval:
        return f"{difference.mean:+.{digits}f}"
    return f"{difference.mean:+.{digits}f} [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"


def p_text(p: float) -> str:
    """Return a p-value with three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def one_line(text: str) -> str:
    """Return text on one line: white space is one space, what no reader sees is written as its escape."""
    return escape_hidden(re.sub(r"\s+", " ", text), allowed="")
