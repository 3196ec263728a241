"""Comparison of written JSON with the records: the edited values."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ema_lab.reports.check.difference import ABSENT, Difference, is_equal

Position = tuple[Any, ...]


class Named(NamedTuple):
    """Readable name of a position in JSON."""

    where: str
    row: str | None
    column: str | None


def json_differences(
    file: str, written: str, built: str, named: Callable[[Position, Any], Named]
) -> Iterator[Difference]:
    """Yield each value that differs; `named` names its position in the built JSON."""
    built_data = json.loads(built)
    try:
        written_data = json.loads(written)
    except ValueError as error:
        yield Difference(file, problem=f"is not JSON: {error}")
        return
    flat, wanted = dict(_leaves(written_data, ())), dict(_leaves(built_data, ()))
    for position in dict.fromkeys([*wanted, *flat]):
        value, other = flat.get(position, ABSENT), wanted.get(position, ABSENT)
        if not is_equal(value, other):
            yield Difference(file, *named(position, built_data), value, other)


def _leaves(value: Any, position: Position) -> Iterator[tuple[Position, Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in items:
            yield from _leaves(below, (*position, key))
    else:
        yield position, value


def name_in_report(position: Position, report: Any) -> Named:
    """Name a position of report.json: a cell by row and column."""
    match position:
        case ("tables", int(table), "rows", int(row), "cells", int(cell), *rest):
            try:
                table_data = report["tables"][table]
                name, column = table_data["rows"][row]["name"], table_data["columns"][cell]["label"]
            except IndexError:
                return name_by_keys(position, report)
            return Named(f"row {name!r}, column {column!r}, {_dotted(rest)}", name, column)
    return name_by_keys(position, report)


def name_in_page(position: Position, data: Any) -> Named:
    """Name a position of the page's data: a run and its field."""
    match position:
        case ("runs", str(run_id), *rest):
            run = data["runs"].get(run_id, {"variants": ["of no row"], "seed": "?"})
            name = f"{', '.join(run['variants'])}, seed {run['seed']}"
            return Named(f"run {run_id} ({name}), {_dotted(rest)}", run_id, _dotted(rest))
    return name_by_keys(position, data)


def name_by_keys(position: Position, _value: Any = None) -> Named:
    """Name a position by its keys."""
    return Named(_dotted(position) or "the whole", None, _dotted(position))


def _dotted(position: Any) -> str:
    return ".".join(map(str, position))
