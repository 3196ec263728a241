"""Text fitting: wrap names to a measured width in points."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.reports.figures.style import USUAL, Form

LINE = 0.12 * 72 / 7  # line height over font size
HINTED = 1.04  # hinting on a screen's raster may widen letters by this factor
EDGE, HANDLE, BETWEEN = 14, 17, 8  # legend widths in points: both margins, an entry's marker, column gap


class _Wrapper(textwrap.TextWrapper):
    """Wrapper that also breaks lines at the joints of row names, but at no comma of thousands."""

    wordsep_re = re.compile(r"(\s+|(?:[^\s_/=,;-]|,(?=\d{3}(?!\d)))*(?:[_/=;-]|,(?!\d{3}(?!\d)))+)")


def column() -> float:
    """Return the width of the figure in points. Call it, and all below, within `styled`."""
    from matplotlib import rcParams

    return 72 * float(rcParams["figure.figsize"][0])


def small() -> float:
    """Return the font size of ticks, legends and panels."""
    from matplotlib import rcParams

    return float(rcParams["legend.fontsize"])


def line_inches() -> float:
    """Return the height of a small line."""
    return LINE * small() / 72


def width_of(text: str, size: float | None = None) -> float:
    """Return the width in points of a text's widest line; it is small by default."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=rcParams["font.family"], size=small() if size is None else size)
    lines = text.split("\n")
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines]
    return HINTED * float(max(widths))


def fitted(text: str, points: float, size: float | None = None) -> str:
    """Wrap a text to lines no wider than `points`, between words if possible."""
    width = width_of(text, size)
    if width <= points:
        return text
    longest = min(len(text), int(1.5 * len(text) * points / width) + 2)
    for characters in range(longest, 0, -1):
        lines = _Wrapper(characters).wrap(text)
        if all(width_of(line, size) <= points for line in lines):
            break
    return "\n".join(lines)


def lines_of(text: str) -> int:
    """Return the number of lines of a text."""
    return text.count("\n") + 1


@dataclass(frozen=True)
class Legend:
    """Wrapped labels of a legend, its number of columns (0: no legend), and its height."""

    texts: tuple[str, ...]
    columns: int
    inches: float


def legend_of(labels: Sequence[str], form: Form = USUAL) -> Legend:
    """Return the lowest legend of the figure's width; each broken label counts as half a line.

    Without labels, or if the form has none, the legend is empty.
    """

    def cost(legend: Legend) -> float:
        return legend.inches + line_inches() / 2 * sum(lines_of(text) - 1 for text in legend.texts)

    if form.legend == "none" or not labels:
        return Legend(tuple(labels), 0, 0.0)
    return min((_legend(labels, columns) for columns in range(1, max(3, int(column() / 80)) + 1)), key=cost)


def _legend(labels: Sequence[str], columns: int) -> Legend:
    room = (column() - EDGE - BETWEEN * (columns - 1)) / columns - HANDLE
    texts = tuple(fitted(label, room) for label in labels)
    each, more = divmod(len(texts), columns)  # matplotlib puts the remainder into the first columns
    ends = [each * (index + 1) + min(index + 1, more) for index in range(columns)]
    starts = [0, *ends[:-1]]
    inches = max(
        sum(line_inches() * lines_of(text) + 0.05 for text in texts[start:end])
        for start, end in zip(starts, ends, strict=True)
    )
    return Legend(texts, columns, inches)
