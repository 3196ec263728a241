"""Always-valid differences and p-values of rows whose seeds were added until a decision.

The number of seeds then depends on their results, so that a plain t interval covers too little. These
intervals hold at every number of seeds, however often a user has looked.
"""

from collections.abc import Sequence
from typing import Any

from ema_lab.reports.table.cells import comparison_cell, difference_numbers
from ema_lab.results.selection import Row
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm
from ema_lab.statistics.sequential import compare_sequentially
from ema_lab.tables.table import TableCell
from ema_lab.tables.text import p_text


def sequential_cells(spec: ReportSpec, rows: Sequence[Row], key: str) -> list[TableCell]:
    """Return the cells of the column `delta` or `p`; intervals and p-values hold over all rows at once."""
    compared = [row for row in rows if not row.is_baseline]
    followed = {
        row.name: compare_sequentially(row.differences(spec.metric), len(compared)) for row in compared
    }
    # Intervals already share the error among the rows (Bonferroni in `follow`); p-values do not yet.
    corrected = dict(zip(followed, holm([difference.p for difference in followed.values()]), strict=True))

    def fields(row: Row) -> dict[str, Any]:
        p, difference = corrected[row.name], followed[row.name]
        if key == "p":
            return {"text": p_text(p), "value": p, "p": p}
        n, expected = difference.count, len(row.cells)
        count = f"n={n}" + (f" of {expected}" if n < expected else "")
        return {**difference_numbers(difference.difference, spec.digits, "always_valid"), "count": count}

    def cell(row: Row) -> TableCell:
        return comparison_cell(row, spec.metric, lambda _: fields(row))

    return [cell(row) for row in rows]
