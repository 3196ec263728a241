"""Always-valid differences and p-values of rows whose seeds were added until a decision.

The number of seeds then depends on their results, so that a plain t interval covers too little. These
intervals hold at every number of seeds, however often a user has looked.
"""

from collections.abc import Sequence
from typing import Any

from ema_lab.measured.family import Family
from ema_lab.measured.selection import Row
from ema_lab.reports.table.cells import comparison_cell, difference_numbers
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm
from ema_lab.statistics.sequential import compare_sequentially, decide
from ema_lab.tables.table import Mark, TableCell
from ema_lab.tables.text import p_text


def sequential_cells(spec: ReportSpec, rows: Sequence[Row], key: str, family: Family) -> list[TableCell]:
    """Return the cells of the column `delta` or `p`; intervals and p-values hold over the family at once."""
    followed = {
        row.name: compare_sequentially(row.differences(spec.metric), family.num_compared)
        for row in family.compared
    }
    decisions = decide(list(followed.values()), spec.compared_metric.sign, spec.margin or 0.0)
    equal = {name for name, decision in zip(followed, decisions, strict=True) if decision == "equal"}
    # Intervals already share the error among the rows (Bonferroni in `compare_sequentially`); p-values do
    # not yet.
    corrected = dict(zip(followed, holm([difference.p for difference in followed.values()]), strict=True))

    def fields(row: Row) -> dict[str, Any]:
        p, difference = corrected[row.name], followed[row.name]
        if key == "p":
            test = {"p_raw": difference.p, "family": len(followed), "test": "always-valid paired t"}
            return {"text": p_text(p), "value": p, "p": p, **test}
        n, expected = difference.count, len(row.cells)
        count = f"n={n}" + (f" of {expected}" if n < expected else "")
        mark = Mark.EQUIVALENT if row.name in equal else None
        numbers = difference_numbers(difference.difference, spec.digits, "always_valid")
        return {**numbers, "count": count, "mark": mark}

    def cell(row: Row) -> TableCell:
        return comparison_cell(row, spec.metric, lambda _: fields(row))

    return [cell(row) for row in rows]
