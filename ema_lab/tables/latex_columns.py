"""Columns of a LaTeX table, aligned at the decimal point by siunitx.

A column of numbers becomes up to three LaTeX columns: the number, the ± or interval, and the signs after it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.tables.cell import HOLE, Mark, TableCell
from ema_lab.tables.latex_text import escaped

_FORM = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
NUMBER = re.compile(
    rf"(?P<sign>< )?(?P<number>{_FORM})(?: ± (?P<spread>{_FORM})| \[(?P<low>{_FORM}), (?P<high>{_FORM})\])?"
    r"(?P<tail>(?: \(.*\))?(?: [†‡¶≈?])*)"
)
LOOKS_NUMERIC = re.compile(r"[<>≤≥~+-]? ?\d")
UNDERLINED = r"{\underline{\tablenum[%s]{%s}}}"
MARKS = {Mark.BEST: r"\textbf{%s}", Mark.SECOND: r"\underline{%s}"}
GROUPED = "group-digits=integer, group-minimum-digits=4, group-separator={,}"


@dataclass(frozen=True)
class _Parts:
    """Parts of a numeric cell. `number` has no separators of thousands; `rest` is ± or an interval."""

    number: str
    spread: str
    low: str
    high: str
    tail: str


class LatexColumn:
    """Column of a table: its LaTeX columns (`spec`), its header, and its cells.

    Columns with other texts than numbers, such as check marks, stay one right-aligned column.
    """

    def __init__(self, label: str, cells: Sequence[TableCell]) -> None:
        self._cells = cells
        parts = [_parts(cell) for cell in cells]
        texts = [cell.text for cell, found in zip(cells, parts, strict=True) if found is None and cell.text]
        is_aligned = any(parts) and not any(map(LOOKS_NUMERIC.match, texts))
        self._parts: list[_Parts | None] = parts if is_aligned else [None] * len(cells)
        numeric = [found for found in self._parts if found]
        self._has_rest = any(found.spread or found.low for found in numeric)
        self._has_tail = any(found.tail for found in numeric)
        self._high = max((found.high for found in numeric), key=len, default="")
        self.width = 1 + self._has_rest + self._has_tail
        self._options = _options([found.number for found in numeric], cells)
        self.spec = self._spec() if numeric else "r"
        self.header = self._text(escaped(label))

    def _spec(self) -> str:
        rest = r"@{\,}r" if self._has_rest else ""
        return f"S[{self._options}]{rest}" + (r"@{\,}l" if self._has_tail else "")

    def _text(self, text: str) -> str:
        """Return a text for the whole column, which siunitx does not read as a number."""
        if self.spec == "r":
            return text
        return f"{{{text}}}" if self.width == 1 else rf"\multicolumn{{{self.width}}}{{c}}{{{text}}}"

    def cell(self, row: int) -> str:
        """Return a row's cell: as many LaTeX cells as the column is wide."""
        cell, parts = self._cells[row], self._parts[row]
        if parts is None:
            text = escaped(HOLE if cell.text is None else cell.text)
            return self._text((MARKS[cell.mark] % text if cell.mark in MARKS else text) + escaped(cell.tail))
        number = parts.number
        if cell.mark is Mark.BEST:
            number = rf"\bfseries {number}"
        if cell.mark is Mark.SECOND:
            number = UNDERLINED % (self._options, number)
        rest = self._spread_or_interval(parts)
        tail = escaped(parts.tail.strip())
        return " & ".join([number, *([rest] if self._has_rest else []), *([tail] if self._has_tail else [])])

    def _spread_or_interval(self, parts: _Parts) -> str:
        if parts.spread:
            return rf"${{}}\pm {_maths(parts.spread)}$"
        if not parts.low:
            return ""
        start = int(parts.high[0] in "+-")  # a sign is there: only digits are missing
        missing = self._high[start : start + len(self._high) - len(parts.high)]
        room = rf"\phantom{{{_maths(missing)}}}" if missing else ""
        high = _maths(parts.high)
        if room and high[0] in "+-":
            high = f"{{{high[0]}}}{high[1:]}"  # a sign, which after the room would be read as an operator
        return rf"$[{_maths(parts.low)}, {room}{high}]$"


def _parts(cell: TableCell) -> _Parts | None:
    match = NUMBER.fullmatch(cell.text or "")
    if match is None:
        return None
    number = (match["sign"] or "").strip() + match["number"].replace(",", "")
    spread, low, high = (match[name] or "" for name in ("spread", "low", "high"))
    return _Parts(number, spread, low, high, match["tail"] + cell.tail)


def _maths(number: str) -> str:
    return number.replace(",", "{,}")


def _options(numbers: Sequence[str], cells: Sequence[TableCell]) -> str:
    """Return siunitx's options of a column: room for the longest number, signs, thousands, bold."""
    integers = [re.sub(r"[^\d]", "", number.partition(".")[0]) for number in numbers]
    decimals = max((len(number.partition(".")[2]) for number in numbers), default=0)
    signs = "<" * any("<" in number for number in numbers)
    signs += "+" * any("+" in number for number in numbers) or "-" * any("-" in number for number in numbers)
    options = [f"table-format={signs}{max(map(len, integers), default=1)}.{decimals}"]
    if any("+" in number for number in numbers):
        options.append("retain-explicit-plus")
    if any(len(integer) > 3 for integer in integers):
        options.append(GROUPED)
    if any(cell.mark is Mark.BEST for cell in cells):
        options.append("detect-weight")
    return ", ".join(options)
