"""Cells of tests: p-values, detectable differences and marks, corrected for the whole family.

A test's family is every row that the ablation compares. A cell therefore does not depend on which other rows
a report shows: leaving out rows makes no difference significant and no row the best.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ema_lab.measured.family import Family
from ema_lab.measured.selection import Row, unclean_rows
from ema_lab.reports.table.cells import CELLS, comparison_cell, cost_delta_cell, delta_cell
from ema_lab.reports.table.pooled import PooledFamily, pooled_family
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import (
    holm,
    pair_count,
    paired_equivalence,
    paired_test,
    rank_rows,
    summarise,
    wilcoxon_test,
)
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.power import detectable_difference, std_limits
from ema_lab.tables.cell import Flag, Mark, TableCell
from ema_lab.tables.table import TableColumn
from ema_lab.tables.text import p_text

PAIRED_T, WILCOXON, TWO_ONE_SIDED = "paired t", "Wilcoxon signed-rank", "two one-sided paired t"
POOLED = "{}, pooled variance"


@dataclass(frozen=True)
class Tested:
    """Test of one row against the baseline.

    Attributes:
        p: P-value without a correction. NaN if untestable.
        why: Reason why it is untestable; otherwise empty.
        degrees: Degrees of freedom, if the test has any.
        name: Name of the test.
    """

    p: float
    why: str
    degrees: float | None = None
    name: str = PAIRED_T


def paired_t(differences: Sequence[float]) -> Tested:
    """Test paired differences by a two-sided t test."""
    test = paired_test(differences)
    return Tested(test.p, test.why, test.count - 1)


def signed_rank(differences: Sequence[float]) -> Tested:
    """Test paired differences by signed ranks. The caption says how many pairs a table needs."""
    test = wilcoxon_test(differences)
    p = math.nan if test.p is None else test.p
    return Tested(p, f"n={test.count}: cannot reach 0.05", name=WILCOXON)


def p_cells(
    rows: Sequence[Row],
    metric: str,
    family: Family,
    test: Callable[[Sequence[float]], Tested] = paired_t,
) -> list[TableCell]:
    """Return the p-values of tests against the baseline, Holm-corrected over the family.

    Args:
        rows: Shown rows.
        metric: Metric that is compared.
        family: All compared rows.
        test: Test of one row's paired differences.
    """
    tests = {row.name: test(row.differences(metric)) for row in family.compared}
    corrected = holm([tested.p for tested in tests.values()])
    return _p_cells(rows, metric, tests, dict(zip(tests, corrected, strict=True)))


def pooled_p_cells(
    rows: Sequence[Row], metric: str, pooled: PooledFamily, name: str = PAIRED_T, margin: float = 0.0
) -> list[TableCell]:
    """Return the corrected p-values of tests by pooled variances.

    Args:
        rows: Shown rows.
        metric: Metric that is compared.
        pooled: Contrasts of all compared rows.
        name: Name of the test by a row's own variance, which rows outside the pool have.
        margin: Margin of equivalence; 0 tests for a difference.
    """
    tests = {
        row: Tested(
            each.raw_p(margin),
            each.why,
            each.family_error.degrees if each.family_error else None,
            POOLED.format(name) if each.pooled else name,
        )
        for row, each in pooled.contrasts.items()
    }
    return _p_cells(rows, metric, tests, pooled.corrected(margin))


def _p_cells(
    rows: Sequence[Row], metric: str, tests: Mapping[str, Tested], p_values: Mapping[str, float]
) -> list[TableCell]:
    """Return the cells of corrected p-values, by the tests of all compared rows."""

    def cell(row: Row) -> TableCell:
        return comparison_cell(row, metric, lambda _: fields(p_values[row.name], tests[row.name]))

    def fields(p: float, tested: Tested) -> dict[str, Any]:
        if math.isnan(p):
            return {"text": "untested", "count": tested.why}
        facts = {"p_raw": tested.p, "family": len(tests), "test": tested.name, "degrees": tested.degrees}
        return {"text": p_text(p), "value": p, "p": p, **facts}

    return [cell(row) for row in rows]


def equivalence_cells(
    rows: Sequence[Row], metric: str, family: Family, margin: float, pooled: PooledFamily | None = None
) -> list[TableCell]:
    """Return the p-values of two one-sided tests within ±`margin`; a row below 5 % is marked equivalent."""

    def within_margin(differences: Sequence[float]) -> Tested:
        test = paired_equivalence(differences, margin)
        return Tested(test.p, test.why, test.count - 1, TWO_ONE_SIDED)

    cells = (
        pooled_p_cells(rows, metric, pooled, TWO_ONE_SIDED, margin)
        if pooled
        else p_cells(rows, metric, family, within_margin)
    )
    return [
        replace(cell, mark=Mark.EQUIVALENT) if cell.p is not None and cell.p < SIGNIFICANCE else cell
        for cell in cells
    ]


def detectable_cells(spec: ReportSpec, rows: Sequence[Row], metric: str, family: Family) -> list[TableCell]:
    """Return the smallest difference that each row's pairs can detect, given their spread.

    The level is that of Holm's first step, since the number holds for the whole family, like the p-values.
    The range comes from the 80 % interval of the deviation, which few pairs estimate badly.
    """
    level = SIGNIFICANCE / family.num_compared

    def fields(differences: list[float]) -> dict[str, Any]:
        summary = summarise(differences)
        if not summary.has_spread:
            few = "needs two pairs" if summary.count < 2 else "all differences are equal"
            return {"text": "untested", "count": few}
        stds = (summary.std, *std_limits(summary.std, summary.count - 1))
        smallest, low, high = (detectable_difference(summary.count, std, significance=level) for std in stds)
        text = f"{smallest:.{spec.digits}f} [{low:.{spec.digits}f}, {high:.{spec.digits}f}]"
        return {"text": text, "value": smallest, "low": low, "high": high}

    return [comparison_cell(row, metric, fields) for row in rows]


@dataclass(frozen=True)
class Marks:
    """Marks of rank of all rows of a family in one column; a report shows some of them.

    Attributes:
        by_row: Mark of each row, by name; empty if no two rows could be tested.
        unclean: Rows whose marks rest on pairs that are not clean.
        untested: Rows with runs that no test of the column has seen.
        hidden_best: Best rows that the report does not show, of the groups that it shows.
        pairs: Number of pairs for which the tests are corrected.
        test: Name of the tests.
    """

    by_row: Mapping[str, Mark | None]
    unclean: frozenset[str] = frozenset()
    untested: tuple[Row, ...] = ()
    hidden_best: tuple[Row, ...] = ()
    pairs: int = 0
    test: str = PAIRED_T

    def mark(self, cell: TableCell, row: Row) -> TableCell:
        """Return a row's cell with its mark."""
        mark = self.by_row.get(row.name)
        if mark is None:
            return cell
        if mark is Mark.UNTESTED:
            return replace(cell, mark=mark)
        flags = {Flag.UNCLEAN} if row.name in self.unclean else set()
        return replace(cell, mark=mark, flags=cell.flags | flags, family=self.pairs, test=self.test)


def marks_of(spec: ReportSpec, metric: str, family: Family) -> Marks:
    """Return the marks of rank within each group: best, second, and untested.

    If no two rows could be tested, a single note replaces the sign in every cell. Whether marks rest on
    unclean pairs is judged over all rows of a group.
    """
    groups = family.groups or ("",) * len(family.rows)
    values, sign = [row.by_seed(metric) for row in family.rows], spec.task.metrics[metric].sign
    is_pooled = spec.test == "pooled"
    ranks = rank_rows(values, sign, groups, pooled=is_pooled)
    marks = [Mark(rank) if rank else None for rank in ranks]
    with_runs = [mark for row, mark in zip(family.rows, marks, strict=True) if row.finished(metric)]
    if all(mark is Mark.UNTESTED for mark in with_runs):
        return Marks({})
    unclean = zip(family.rows, unclean_rows(family.rows, groups), strict=True)
    shown_groups = {
        group for row, group in zip(family.rows, groups, strict=True) if row.name in family.shown_names
    }
    members = [each for each in zip(family.rows, marks, groups, strict=True) if each[2] in shown_groups]
    hidden = [(row, mark) for row, mark, _ in members if row.name not in family.shown_names]
    return Marks(
        {row.name: mark for row, mark in zip(family.rows, marks, strict=True)},
        frozenset(row.name for row, is_unclean in unclean if is_unclean),
        tuple(row for row, mark, _ in members if mark is Mark.UNTESTED),
        tuple(row for row, mark in hidden if mark is Mark.BEST),
        pair_count(groups),
        POOLED.format(PAIRED_T) if is_pooled else PAIRED_T,
    )


def column_marks(spec: ReportSpec, columns: Sequence[TableColumn], family: Family) -> dict[str, Marks]:
    """Return the marks of rank of each column of a metric, by metric.

    There are none if seeds were added until a decision: rank tests need a number that was fixed beforehand.
    """
    if not spec.rank or spec.is_decided:
        return {}
    return {column.key: marks_of(spec, column.key, family) for column in columns if column.kind == "metric"}


def column_cells(
    spec: ReportSpec, rows: Sequence[Row], column: TableColumn, family: Family
) -> list[TableCell]:
    """Return the cells of one column, one per shown row; tests are corrected for the family."""
    metric = column.key if column.kind == "latency" else column.metric or column.key
    if column.kind == "cost" and column.key != metric:
        return [cost_delta_cell(spec, row, metric) for row in rows]
    if column.kind == "detectable":
        return detectable_cells(spec, rows, metric, family)
    if column.kind == "p" and column.key == "wilcoxon":
        return p_cells(rows, metric, family, signed_rank)
    if column.kind not in {"p", "delta"}:
        return [CELLS[column.kind](spec, row, metric) for row in rows]
    pooled = pooled_family(metric, family) if spec.test == "pooled" else None
    if column.key == "equivalence" and spec.margin is not None:
        return equivalence_cells(rows, metric, family, spec.margin, pooled)
    if column.kind == "p":
        return pooled_p_cells(rows, metric, pooled) if pooled else p_cells(rows, metric, family)
    contrasts = pooled.contrasts if pooled else {}
    count = family.num_compared
    cells = [delta_cell(spec, row, metric, count, contrasts.get(row.name)) for row in rows]
    if column.key == "delta" and spec.margin is not None:
        tests = equivalence_cells(rows, metric, family, spec.margin, pooled)
        return [replace(cell, mark=test.mark) for cell, test in zip(cells, tests, strict=True)]
    return cells
