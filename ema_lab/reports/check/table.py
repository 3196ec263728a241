"""Comparison of written tables by cells, whatever their format."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import zip_longest
from typing import NamedTuple

from ema_lab.reports.check.difference import ABSENT, Difference, aligned, is_equal, line_differences
from ema_lab.tables.markdown_text import cells_of

WIDE = re.compile(r"\\multicolumn\{(\d+)\}\{c\}\{(.*)\}")
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")


class Grid(NamedTuple):
    """Cells of a written table, header first, and the lines around them.

    `left`: number of columns that hold names.
    """

    left: int
    rows: list[list[str]]
    rest: list[str]


def table_differences(file: str, suffix: str, written: str, built: str) -> Iterator[Difference]:
    """Yield each cell, and each line around the cells, that differs in a table of the format `suffix`."""
    read = GRIDS[suffix]
    written_grid, built_grid = read(written), read(built)
    header = built_grid.rows[0]
    yield from _row_differences(file, "header", None, written_grid.rows[0], header, header)
    rows = aligned(written_grid.rows[1:], built_grid.rows[1:], lambda row: tuple(row[: built_grid.left]))
    for row, wanted in rows:
        name = " ".join(filter(None, (wanted or row or [])[: built_grid.left]))
        yield from _row_differences(file, f"row {name!r}", name, row or [], wanted or [], header)
    yield from line_differences(file, "outside of the cells", written_grid.rest, built_grid.rest)


def _row_differences(
    file: str, where: str, name: str | None, row: list[str], wanted: list[str], header: list[str]
) -> Iterator[Difference]:
    for index, (cell, value) in enumerate(zip_longest(row, wanted, fillvalue=ABSENT)):
        if not is_equal(cell, value):
            column = header[index] if index < len(header) else f"{index + 1}"
            yield Difference(file, f"{where}, column {column!r}", name, column, cell, value)


def rounded_numbers(text: str) -> str:
    """Return text whose numbers are rounded to the digits that all library versions agree on."""
    return NUMBER.sub(lambda match: _rounded(match[0]), text)


def _markdown(text: str) -> Grid:
    lines = text.splitlines()
    inside = [line for line in lines if line.startswith("|")]
    rows = [cells_of(line) for line in inside]
    align = rows.pop(1) if len(rows) > 1 else []
    left = sum(not cell.endswith(":") for cell in align)
    return Grid(left, rows or [[]], [line for line in lines if not line.startswith("|")])


def _latex(text: str) -> Grid:
    lines = text.splitlines()
    rows = [_latex_cells(line.removesuffix(r" \\")) for line in lines if line.endswith(r" \\")]
    header = rows[0] if rows else []
    for index, cell in enumerate(header):  # a header over several LaTeX columns names each of them
        header[index] = cell or header[index - 1]
    columns = re.search(r"\\begin\{tabular\}\{(l*)", text)
    left = len(columns[1]) if columns else 1
    return Grid(left, rows or [[]], [line for line in lines if not line.endswith(r" \\")])


def _latex_cells(line: str) -> list[str]:
    """Return a row's cells, as many as LaTeX columns; a text over several of them is the first."""
    cells: list[str] = []
    for cell in re.split(r" (?<!\\)& ", line):
        wide = WIDE.fullmatch(cell)
        cells += [wide[2], *[""] * (int(wide[1]) - 1)] if wide else [cell]
    return cells


def _csv(text: str) -> Grid:
    rows = list(csv.reader(io.StringIO(text)))
    left = rows[0].index("variant") + 1 if rows and "variant" in rows[0] else 1
    return Grid(left, rows or [[]], [])


def _html(text: str) -> Grid:
    body, foot, notes = text.partition("<tfoot>")
    reader = _Cells()
    reader.feed(body)
    width = len(reader.rows[0]) if reader.rows else 0
    rows = [[""] * (width - len(row)) + row for row in reader.rows]  # a group's name spans several rows
    outside = re.sub(r"<t([hd])\b.*?</t\1>", "", body, flags=re.DOTALL)
    return Grid(max(1, reader.names), rows or [[]], [*outside.splitlines(), *(foot + notes).splitlines()])


BEHIND = ("class", "data-value", "data-n", "data-runs", "data-baseline-runs")


class _Cells(HTMLParser):
    """Parser of cells by row: the text, then in brackets the class, the unrounded value and the runs."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.names = 0
        self._inside = False
        self._behind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr" or (tag in {"th", "td"} and not self.rows):
            self.rows.append([])
        if tag in {"th", "td"}:
            self._inside = True
            self.rows[-1].append("")
            self.names += ("data-kind", "name") in attrs
            attributes = [f"{key}={_rounded(value)}" for key, value in attrs if key in BEHIND and value]
            self._behind = f" [{', '.join(attributes)}]" if attributes else ""
        elif self._inside:
            self.rows[-1][-1] += f"<{tag}>"

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._inside = False
            self.rows[-1][-1] += self._behind

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text


GRIDS: Mapping[str, Callable[[str], Grid]] = {
    ".md": _markdown,
    ".tex": _latex,
    ".csv": _csv,
    ".html": _html,
}
