"""Sequential differences and p-values of rows whose seeds were added until a decision.

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
from ema_lab.statistics.group_sequential import compare_decided
from ema_lab.statistics.sequential import decide
from ema_lab.tables.cell import Mark, SpreadKind, TableCell
from ema_lab.tables.text import p_text
from ema_lab.wording import number_of


def test_words(spec: ReportSpec) -> str:
    """Return the name of the rule under which seeds were added until a decision."""
    return "always-valid" if spec.planned_seeds is None else "group-sequential"


def interval_name(spec: ReportSpec) -> str:
    """Return the name of the interval that holds at every number of seeds."""
    return f"{'always-valid' if spec.planned_seeds is None else 'repeated'} 95 % interval"


def limit_words(spec: ReportSpec) -> str:
    """Return a phrase on the limit of the seeds and the assumptions of the test."""
    if spec.planned_seeds is None:
        return "at most a limit"
    return f"at most {number_of(spec.planned_seeds, 'seed')}, fixed in advance; differences taken as normal"


def sequential_cells(spec: ReportSpec, rows: Sequence[Row], key: str, family: Family) -> list[TableCell]:
    """Return the cells of the column `delta` or `p`; intervals and p-values hold over the family at once."""
    followed = {
        row.name: compare_decided(row.differences(spec.metric), family.num_compared, spec.planned_seeds)
        for row in family.compared
    }
    decisions = decide(list(followed.values()), spec.compared_metric.sign, spec.margin or 0.0)
    equal = {name for name, decision in zip(followed, decisions, strict=True) if decision == "equal"}
    # Intervals already share the error among the rows (Bonferroni); p-values do not yet.
    corrected = dict(zip(followed, holm([difference.p for difference in followed.values()]), strict=True))

    kind: SpreadKind = "always_valid" if spec.planned_seeds is None else "repeated_interval"

    def fields(row: Row) -> dict[str, Any]:
        p, difference = corrected[row.name], followed[row.name]
        if key == "p":
            test = {"p_raw": difference.p, "family": len(followed), "test": f"{test_words(spec)} paired t"}
            return {"text": p_text(p), "value": p, "p": p, **test}
        n, expected = difference.count, len(row.cells)
        count = f"n={n}" + (f" of {expected}" if n < expected else "")
        mark = Mark.EQUIVALENT if row.name in equal else None
        numbers = difference_numbers(difference.difference, spec.digits, kind)
        return {**numbers, "count": count, "mark": mark}

    def cell(row: Row) -> TableCell:
        return comparison_cell(row, spec.metric, lambda _: fields(row))

    return [cell(row) for row in rows]
