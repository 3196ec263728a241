"""Differences and p-values of rows whose seeds were added until they were decided.

How many seeds a row has then depends on what they showed, so a plain t interval covers too little: these
hold however often one has looked.
"""

from collections.abc import Sequence
from dataclasses import replace

from ema_lab.reports.table.cells import compared_cell, difference_numbers
from ema_lab.results.selection import Row
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm
from ema_lab.statistics.sequential import SequentialComparison, compare_sequentially
from ema_lab.tables.table import TableCell
from ema_lab.tables.text import p_text


def sequential_cells(spec: ReportSpec, rows: Sequence[Row], key: str) -> list[TableCell]:
    """Return the cells of the column `delta` or `p`; intervals and p-values hold over all rows at once."""
    compared = [row for row in rows if not row.is_baseline]
    followed = {
        row.name: compare_sequentially(row.differences(spec.metric), len(compared)) for row in compared
    }
    corrected = dict(zip(followed, holm([one.p for one in followed.values()]), strict=True))
    return [
        TableCell("baseline", expected=len(row.cells))
        if row.is_baseline
        else _cell(spec, row, key, followed[row.name], corrected[row.name])
        for row in rows
    ]


def _cell(spec: ReportSpec, row: Row, key: str, followed: SequentialComparison, p: float) -> TableCell:
    found = row.pairs(spec.metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    if key == "p":
        return replace(cell, text=p_text(p), value=p, p=p)
    numbers = difference_numbers(followed.difference, spec.digits, "always_valid")
    count = f"n={followed.count}" + (f" of {len(row.cells)}" if followed.count < len(row.cells) else "")
    return replace(cell, **numbers, count=count)
