"""Written tables against the records: which cell of which file was edited."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

ABSENT = "(nothing)"


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
    yield from found or [f"{path}: differs from what the records give in spaces or line ends alone"]


def _text(path: Path, written: str, built: str) -> Iterator[str]:
    read = GRIDS[path.suffix]
    mine, right = read(written), read(built)
    header = right.rows[0]
    nothing: list[str] = []
    for number, (row, wanted) in enumerate(zip_longest(mine.rows, right.rows, fillvalue=nothing)):
        name = "header" if number == 0 else f"row {_name(wanted or row, right.left)}"
        for place, (cell, value) in enumerate(zip_longest(row, wanted, fillvalue=ABSENT)):
            if cell != value:
                column = header[place] if place < len(header) else f"{place + 1}"
                yield f"{path}: {name}, column {column!r}: {cell!r} is written, the records give {value!r}"
    for line, wanted_line in zip_longest(mine.rest, right.rest, fillvalue=ABSENT):
        if line != wanted_line:
            yield f"{path}: outside of the cells: {line!r} is written, the records give {wanted_line!r}"


def _name(row: list[str], left: int) -> str:
    return repr(" ".join(filter(None, row[:left])))


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
    reader = _Cells()
    reader.feed(text)
    left = sum('data-kind="text"' in tag for tag in reader.tags[: len(reader.rows[0]) if reader.rows else 0])
    outside = re.sub(r"<t([hd])\b.*?</t\1>", "", text, flags=re.DOTALL)
    notes = re.findall(r"<tfoot>.*?</tfoot>", text, flags=re.DOTALL)
    return Grid(left or 1, reader.rows or [[]], [*outside.splitlines(), *notes])


class _Cells(HTMLParser):
    """Cells row by row: their text and, in brackets, the unrounded value and the runs behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self._inside = False
        self._behind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self._inside = True
            self.rows[-1].append("")
            self.tags.append(self.get_starttag_text() or "")
            shown = [f"{key}={value}" for key, value in attrs if key.startswith("data-") and value]
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
        if value != other or type(value) is not type(other):
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
