"""Written tables against the records: which cell of which file was edited."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

ABSENT = "(nothing)"
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")


class Grid(NamedTuple):
    """The cells of a written table, its header first, and the lines around it.

    `left`: how many columns hold names.
    """

    left: int
    rows: list[list[str]]
    rest: list[str]


def differences(path: Path, built: str) -> Iterator[str]:
    """Yield one line for each cell (row, column, file, both values) and each other line that differs.

    Args:
        path: A file that was written.
        built: What it would be, from the records of now.
    """
    try:
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        return
    if written == built:
        return
    found = list(_json(path, written, built) if path.suffix == ".json" else _text(path, written, built))
    yield from found
    if not found and NUMBER.sub(_rounded_match, written) != NUMBER.sub(_rounded_match, built):
        yield f"{path}: differs from what the records give in its form alone"


def _text(path: Path, written: str, built: str) -> Iterator[str]:
    read = GRIDS[path.suffix]
    mine, right = read(written), read(built)
    header = right.rows[0]
    nothing: list[str] = []
    for number, (row, wanted) in enumerate(zip_longest(mine.rows, right.rows, fillvalue=nothing)):
        name = "header" if number == 0 else f"row {_name(wanted or row, right.left)}"
        for place, (cell, value) in enumerate(zip_longest(row, wanted, fillvalue=ABSENT)):
            if not _same(cell, value):
                column = header[place] if place < len(header) else f"{place + 1}"
                yield f"{path}: {name}, column {column!r}: {cell!r} is written, the records give {value!r}"
    for line, wanted_line in zip_longest(mine.rest, right.rest, fillvalue=ABSENT):
        if line != wanted_line:
            here, there = _apart(line, wanted_line)
            yield f"{path}: outside of the cells: {here!r} is written, the records give {there!r}"


def _name(row: list[str], left: int) -> str:
    return repr(" ".join(filter(None, row[:left])))


def _same(written: Any, built: Any) -> bool:
    """Whether two values are one: numbers up to what another version of a library may round."""
    if written == built:
        return not isinstance(written, bool) or isinstance(built, bool)
    try:
        return math.isclose(float(written), float(built), rel_tol=1e-9, abs_tol=1e-12)
    except (TypeError, ValueError):
        return False


def _apart(written: str, built: str) -> tuple[str, str]:
    """Return where two lines differ, with a few words before."""
    start = _common(written, built)
    end = _common(written[start:][::-1], built[start:][::-1])
    first = max(0, start - 20)
    last = max(0, end - 5)
    return written[first : len(written) - last], built[first : len(built) - last]


def _common(one: str, other: str) -> int:
    pairs = zip_longest(one, other)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(one))


def _markdown(text: str) -> Grid:
    lines = text.splitlines()
    inside = [line for line in lines if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in inside]
    align = rows.pop(1) if len(rows) > 1 else []
    left = sum(not cell.endswith(":") for cell in align)
    return Grid(left, rows or [[]], [line for line in lines if not line.startswith("|")])


def _latex(text: str) -> Grid:
    lines = text.splitlines()
    rows: list[list[str]] = [
        re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines if line.endswith(r" \\")
    ]
    columns = re.search(r"\\begin\{tabular\}\{(l*)", text)
    left = len(columns[1]) if columns else 1
    return Grid(left, rows or [[]], [line for line in lines if not line.endswith(r" \\")])


def _csv(text: str) -> Grid:
    rows = list(csv.reader(io.StringIO(text)))
    left = rows[0].index("variant") + 1 if rows and "variant" in rows[0] else 1
    return Grid(left, rows or [[]], [])


def _html(text: str) -> Grid:
    body, foot, notes = text.partition("<tfoot>")
    reader = _Cells()
    reader.feed(body)
    width = len(reader.rows[0]) if reader.rows else 0
    rows = [[""] * (width - len(row)) + row for row in reader.rows]  # a group's name spans its rows
    outside = re.sub(r"<t([hd])\b.*?</t\1>", "", body, flags=re.DOTALL)
    return Grid(max(1, reader.names), rows or [[]], [*outside.splitlines(), *(foot + notes).splitlines()])


BEHIND = ("class", "data-value", "data-n", "data-runs", "data-baseline-runs")


class _Cells(HTMLParser):
    """Cells row by row: their text and, in brackets, their class, the unrounded value and the runs."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.names = 0
        self._inside = False
        self._behind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self._inside = True
            self.rows[-1].append("")
            self.names += ("data-kind", "name") in attrs
            shown = [f"{key}={_rounded(value)}" for key, value in attrs if key in BEHIND and value]
            self._behind = f" [{', '.join(shown)}]" if shown else ""
        elif self._inside:
            self.rows[-1][-1] += f"<{tag}>"

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._inside = False
            self.rows[-1][-1] += self._behind

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def _rounded_match(found: re.Match[str]) -> str:
    return _rounded(found[0])


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


def _json(path: Path, written: str, built: str) -> Iterator[str]:
    right = json.loads(built)
    try:
        mine = json.loads(written)
    except ValueError as error:
        yield f"{path}: is not JSON: {error}"
        return
    flat, wanted = dict(_leaves(mine, ())), dict(_leaves(right, ()))
    for place in dict.fromkeys([*wanted, *flat]):
        value, other = flat.get(place, ABSENT), wanted.get(place, ABSENT)
        if not _same(value, other):
            where = _json_name(place, right)
            yield f"{path}: {where}: {value!r} is written, the records give {other!r}"


def _leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in items:
            yield from _leaves(below, (*place, key))
    else:
        yield place, value


def _json_name(place: tuple[Any, ...], report: Any) -> str:
    """Return "row, column, key" of a place in a report's JSON, or the place itself."""
    match place:
        case ("tables", int(table), "rows", int(row), "cells", int(cell), *rest):
            try:
                found = report["tables"][table]
                name, column = found["rows"][row]["name"], found["columns"][cell]["label"]
            except IndexError:
                return ".".join(map(str, place))
            return f"row {name!r}, column {column!r}, {'.'.join(map(str, rest))}"
    return ".".join(map(str, place))
