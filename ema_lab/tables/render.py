"""Rendering of a table as terminal text, Markdown, CSV and JSON. LaTeX and HTML have their own modules."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from ema_lab.specs.metric import COSTS
from ema_lab.tables.cell import HOLE, Mark, TableCell
from ema_lab.tables.csv_text import render_csv as render_csv
from ema_lab.tables.markdown_text import escaped, escaped_line
from ema_lab.tables.table import Table, TableColumn, TableRow
from ema_lab.tables.text import one_line

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
CellText = Callable[[TableCell], str]


def render_text(table: Table) -> str:
    """Return an aligned text table, independent of the terminal's width; `**` is bold, `__` underlined."""
    lines = text_rows(table, lambda cell: _marked(cell, ("**", "**"), ("__", "__")))
    left = left_columns(table)
    header = tuple(map(one_line, table.header))
    columns = list(zip(header, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *lines)
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = map(one_line, (*table.notes, *footnote_lines(table)))
    body = [one_line(table.title).strip(), "", aligned[0], rule, *aligned[1:], "", *notes]
    return "\n".join(body) + "\n"


def render_markdown(table: Table) -> str:
    """Return a Markdown table with its title and notes."""
    left = left_columns(table)
    align = ["---" if i < left else "---:" for i in range(len(table.header))]
    rows = text_rows(table, lambda cell: _marked(cell, ("**", "**"), ("<u>", "</u>"), escaped), escaped)
    lines = [tuple(map(escaped, table.header)), align, *rows]
    body = [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"{escaped_line(note)}  " for note in (*table.notes, *footnote_lines(table))]
    return "\n".join([f"**{escaped(table.title).strip()}**", "", *body, "", *notes]) + "\n"


def left_columns(table: Table) -> int:
    """Return the number of leading columns that hold names."""
    return len(table.header) - len(table.columns)


def text_rows(
    table: Table, cell_text: CellText, escape: Callable[[str], str] = one_line
) -> list[tuple[str, ...]]:
    """Return the texts of each row: group, name, cells. Only the first row of a group names the group.

    Args:
        table: The table.
        cell_text: Returns the text of a cell.
        escape: Escapes a name for the format.
    """
    lines = []
    before = None
    for row in table.rows:
        group = (escape(row.group) if row.group != before else "",) if table.group_label else ()
        before = row.group
        name = escape(row.name) + ",".join(map(str, row.footnotes)).translate(SUPERSCRIPTS)
        lines.append((*group, name, *map(cell_text, row.cells)))
    return lines


def footnote_lines(table: Table) -> list[str]:
    """Return the footnotes with their numbers."""
    return [
        f"{number}".translate(SUPERSCRIPTS) + f" {text}" for number, text in enumerate(table.footnotes, 1)
    ]


def _marked(
    cell: TableCell,
    best: tuple[str, str],
    second: tuple[str, str],
    escape: Callable[[str], str] = one_line,
) -> str:
    if cell.text is None:
        return HOLE + cell.tail
    start, end = {Mark.BEST: best, Mark.SECOND: second}.get(cell.mark or Mark.UNTESTED, ("", ""))
    return f"{start}{escape(cell.text)}{end}{escape(cell.tail)}"


def flat_records(table: Table) -> list[dict[str, Any]]:
    """Return one flat object per row with unrounded numbers and run ids, for CSV and `--json`."""
    return [_flat_row(table, row) for row in table.rows]


def _flat_row(table: Table, row: TableRow) -> dict[str, Any]:
    values: dict[str, Any] = {"group": row.group} if table.group_label else {}
    values |= {"variant": row.key, "seeds": row.seeds, "n": row.n}
    for index, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
        values |= _flat_cell(column, cell, _spread_name(table, index))
    return values | {"stale": " ".join(row.stale) or None, "run_ids": " ".join(row.run_ids)}


def _spread_name(table: Table, index: int) -> str:
    """Return the data key of a column's spread, the same for all its cells, also those without a spread."""
    kinds = [kind for row in table.rows if (kind := row.cells[index].spread_kind)]
    return {"std": "std", "se": "se"}.get(kinds[0], "half_width") if kinds else "std"


def _flat_cell(column: TableColumn, cell: TableCell, spread: str) -> dict[str, Any]:
    key = column.key
    if column.kind == "metric":
        return {key: cell.value, f"{key}_{spread}": cell.spread, f"{key}_mark": cell.mark}
    if column.kind == "p":
        facts = {"raw": cell.p_raw, "family": cell.family or None, "test": cell.test or None}
        facts |= {"df": cell.degrees}
        return {key: cell.value, **{f"{key}_{name}": _finite(fact) for name, fact in facts.items()}}
    if column.kind == "delta":
        bounds = {f"{key}_low": cell.low, f"{key}_high": cell.high}
        return {key: cell.value, **bounds, f"{key}_n": cell.n, f"{key}_mark": cell.mark}
    if column.kind in {"images", "images_delta"}:
        interval = {f"{key}_half_width": cell.spread, f"{key}_low": cell.low, f"{key}_high": cell.high}
        errors = {f"{key}_se_seeds": cell.error_seeds, f"{key}_se_images": cell.error_images}
        counts = {f"{key}_n": cell.n, f"{key}_images": cell.images or None}
        return {key: cell.value, **interval, **errors, **counts}
    if column.kind == "intention":
        counts = {f"{key}_n": cell.n, f"{key}_diverged": cell.diverged}
        return {key: cell.value, f"{key}_std": cell.spread, **counts}
    if column.key in {"latency_ratio", "pairing", "detectable"}:
        return {key: cell.value, f"{key}_low": cell.low, f"{key}_high": cell.high}
    if column.kind == "text":
        return {key: cell.text}
    return {} if column.kind == "count" else {key: cell.value}


def table_data(table: Table) -> dict[str, Any]:
    """Return a table as plain data: each cell with its unrounded numbers and run ids."""
    return {
        "name": table.name,
        "title": table.title,
        "notes": list(table.notes),
        "footnotes": list(table.footnotes),
        "columns": [
            {"key": column.key, "label": column.label, "kind": column.kind, "unit": unit_of(column)}
            for column in table.columns
        ],
        "rows": [
            {"key": row.key, "name": row.name, "group": row.group or None, "baseline": row.is_baseline}
            | {"stale": list(row.stale), "run_ids": list(row.run_ids)}
            | {"cells": [_cell_data(cell) for cell in row.cells]}
            for row in table.rows
        ],
    }


def unit_of(column: TableColumn) -> str:
    """Return the unit of a column's values in data. The header's unit may differ: it scales costs."""
    if column.kind == "latency":
        return "ms" if column.key == "latency" else ""
    if column.kind == "cost":
        return COSTS[column.metric or column.key].unit_recorded
    if column.kind not in {"metric", "intention", "delta", "images", "images_delta"}:
        return ""
    unit = column.metric_unit
    return "percentage points" if column.kind in {"delta", "images_delta"} and unit == "%" else unit


def _cell_data(cell: TableCell) -> dict[str, Any]:
    return {
        "text": cell.plain_text,
        "value": _number(cell.value),
        "spread": _number(cell.spread),
        "spread_kind": cell.spread_kind,
        "scope": cell.scope,
        "low": _number(cell.low),
        "high": _number(cell.high),
        "n": cell.n,
        "expected": cell.expected,
        "p": _number(cell.p),
        "p_raw": _number(cell.p_raw),
        "family": cell.family or None,
        "test": cell.test or None,
        "degrees_of_freedom": cell.degrees,
        "standard_error_seeds": _number(cell.error_seeds),
        "standard_error_images": _number(cell.error_images),
        "images": cell.images or None,
        "diverged": cell.diverged or None,
        "mark": cell.mark,
        "flags": sorted(cell.flags),
        "values": list(cell.values),
        "run_ids": list(cell.run_ids),
        "baseline_run_ids": list(cell.baseline_run_ids),
        "missing_run_ids": list(cell.missing_run_ids),
    }


def _finite(fact: float | str | None) -> float | str | None:
    return _number(fact) if isinstance(fact, float) else fact


def _number(value: float | int | None) -> float | int | None:
    return None if value is None or math.isnan(value) else value


def render_json(name: str, tables: Sequence[Table]) -> str:
    """Return all tables of a report as JSON."""
    value = {"report": name, "tables": [table_data(table) for table in tables]}
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
