"""Comparisons with the baseline over data sets: each data set is one observation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ema_lab.measured.selection import Row
from ema_lab.reports.table.cells import compared_cell, difference_numbers
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm, paired_difference, paired_test, summarise
from ema_lab.tables.cell import Flag, TableCell
from ema_lab.tables.table import TableColumn
from ema_lab.tables.text import p_text
from ema_lab.wording import are, number_of

OVER_DATASETS = "paired t over data sets"


@dataclass(frozen=True)
class Method:
    """Row over all data sets: its existing rows, one per data set, and whether it is the baseline."""

    rows: tuple[Row, ...]
    is_baseline: bool

    def means(self, metric: str) -> list[float]:
        """Return the mean paired difference on each data set that has one."""
        differences = [row.differences(metric) for row in self.rows]
        return [summarise(each).mean for each in differences if each]


def mean_columns(spec: ReportSpec, baseline: str) -> list[TableColumn]:
    """Return the columns of the mean difference over data sets and its test."""
    metric = spec.compared_metric
    label = f"Mean Δ vs {baseline}"
    return [
        TableColumn("mean_delta", label, "delta", spec.metric, metric.unit),
        TableColumn("p", "p", "p", spec.metric),
    ]


def mean_cells(
    spec: ReportSpec, methods: Mapping[str, Method], names: Sequence[str], datasets: int
) -> tuple[list[TableCell], list[TableCell]]:
    """Return the mean differences over data sets with their intervals, and their p-values.

    Args:
        spec: The report.
        methods: All rows of the ablations by name; tests are corrected for all of them.
        names: Names of the shown rows.
        datasets: Number of data sets.
    """
    compared = {name: method for name, method in methods.items() if not method.is_baseline}
    tests = {name: paired_test(method.means(spec.metric)) for name, method in compared.items()}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    comparisons = len(compared) if spec.intervals == "simultaneous" else 1
    deltas, p_cells = [], []
    for name in names:
        if name not in compared:
            deltas.append(TableCell("baseline"))
            p_cells.append(TableCell("baseline"))
            continue
        common = _common_cell(spec, compared[name], datasets)
        deltas.append(_delta_cell(spec, common, comparisons))
        facts = {"p_raw": tests[name].p, "family": len(tests), "test": OVER_DATASETS}
        facts["degrees"] = tests[name].count - 1
        p_cells.append(_p_cell(common, corrected[name], facts, tests[name].why))
    return deltas, p_cells


def _common_cell(spec: ReportSpec, method: Method, datasets: int) -> TableCell:
    means = method.means(spec.metric)
    cells = [compared_cell(row, row.pairs(spec.metric)) for row in method.rows]
    flags = {flag for cell in cells for flag in cell.flags & {Flag.STALE, Flag.UNCLEAN}}
    if not means:
        flags.add(Flag.HOLE)
    elif len(means) < datasets:
        flags.add(Flag.MISSING)
    return TableCell(
        n=len(means),
        expected=datasets,
        values=tuple(means),
        run_ids=tuple(run_id for cell in cells for run_id in cell.run_ids),
        baseline_run_ids=tuple(run_id for cell in cells for run_id in cell.baseline_run_ids),
        missing_run_ids=tuple(run_id for cell in cells for run_id in cell.missing_run_ids),
        flags=frozenset(flags),
    )


def _delta_cell(spec: ReportSpec, common: TableCell, comparisons: int) -> TableCell:
    if not common.values:
        return common
    difference = paired_difference(common.values, comparisons)
    numbers = difference_numbers(difference, spec.digits, "datasets")
    is_whole = common.n == common.expected and difference.has_interval
    return replace(common, **numbers, count="" if is_whole else _count(common))


def _p_cell(common: TableCell, p: float, facts: Mapping[str, Any], why: str) -> TableCell:
    if not common.values:
        return common
    if p != p:
        return replace(common, text="untested", count=why.replace("two pairs", "two data sets"))
    return replace(common, text=p_text(p), value=p, p=p, **facts)


def _count(common: TableCell) -> str:
    missing = f"{common.n} of " if common.n < common.expected else ""
    return missing + number_of(common.expected, "data set")


def mean_notes(spec: ReportSpec, baseline: str, methods: Mapping[str, Method], num_shown: int) -> list[str]:
    """Explain the mean over data sets and its test."""
    family = sum(not method.is_baseline for method in methods.values())
    hidden = "" if num_shown == family else f", of which {num_shown} {are(num_shown)} shown"
    over = number_of(family, "row") + hidden
    together = "each by itself" if spec.intervals == "each" else "all rows together, Bonferroni"
    level = f"95 % t interval ({together})"
    return [
        f"Mean Δ: mean over data sets of the difference to {baseline!r}, the control, with its {level} over "
        "data sets: each data set is one observation, the mean over its seeds. p: paired t test over data "
        f"sets against {baseline!r}, Holm-corrected over {over}."
    ]
