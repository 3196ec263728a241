"""Comparison of written JSON with the records: the edited values."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ema_lab.reports.check.difference import ABSENT, Difference, same

Place = tuple[Any, ...]


class Named(NamedTuple):
    """Name of a position in JSON for a reader."""

    where: str
    row: str | None
    column: str | None


def json_differences(
    file: str, written: str, built: str, named: Callable[[Place, Any], Named]
) -> Iterator[Difference]:
    """Yield each value that differs; `named` names its position in the built JSON."""
    right = json.loads(built)
    try:
        mine = json.loads(written)
    except ValueError as error:
        yield Difference(file, problem=f"is not JSON: {error}")
        return
    flat, wanted = dict(_leaves(mine, ())), dict(_leaves(right, ()))
    for place in dict.fromkeys([*wanted, *flat]):
        value, other = flat.get(place, ABSENT), wanted.get(place, ABSENT)
        if not same(value, other):
            yield Difference(file, *named(place, right), value, other)


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in items:
            yield from _leaves(below, (*place, key))
    else:
        yield place, value


def report_place(place: Place, report: Any) -> Named:
    """Name a position of report.json: a cell by row and column."""
    match place:
        case ("tables", int(table), "rows", int(row), "cells", int(cell), *rest):
            try:
                found = report["tables"][table]
                name, column = found["rows"][row]["name"], found["columns"][cell]["label"]
            except IndexError:
                return plain_place(place, report)
            return Named(f"row {name!r}, column {column!r}, {_dotted(rest)}", name, column)
    return plain_place(place, report)


def run_place(place: Place, data: Any) -> Named:
    """Name a position of the page's data: a run and its field."""
    match place:
        case ("runs", str(run_id), *rest):
            run = data["runs"].get(run_id, {"variants": ["of no row"], "seed": "?"})
            name = f"{', '.join(run['variants'])}, seed {run['seed']}"
            return Named(f"run {run_id} ({name}), {_dotted(rest)}", run_id, _dotted(rest))
    return plain_place(place, data)


def plain_place(place: Place, _value: Any = None) -> Named:
    """Name a position by its keys."""
    return Named(_dotted(place) or "the whole", None, _dotted(place))


def _dotted(place: Any) -> str:
    return ".".join(map(str, place))
