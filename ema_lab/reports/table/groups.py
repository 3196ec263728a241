"""Groups of a table's rows, and of the rows that are compared but not shown."""

from dataclasses import replace

from ema_lab.ablation.grid import ABSENT, value_of
from ema_lab.measured.family import Family
from ema_lab.measured.selection import Row
from ema_lab.reports.naming import factor_value
from ema_lab.specs.report import ReportSpec


def group_of(spec: ReportSpec, row: Row) -> str:
    """Return a row's value of the report's group key; empty without groups.

    Raises:
        SpecError: If the row lacks the key, or has several values of it.
    """
    if spec.group is None:
        return ""
    values = list(dict.fromkeys(factor_value(spec, item.cell, spec.group) for item in row.cells))
    if len(values) > 1:
        rule = f"the row {row.name!r} has several values of {spec.group}: {', '.join(values)}"
        raise spec.error_at(rule, "group")
    return values[0]


def with_groups(spec: ReportSpec, family: Family) -> Family:
    """Return the family with the group of each row. Hidden rows without the key share a group."""
    if spec.group is None:
        return family
    return replace(family, groups=tuple(_group_or_none(spec, row) for row in family.rows))


def _group_or_none(spec: ReportSpec, row: Row) -> str:
    assert spec.group is not None
    lacks = any(value_of(item.cell, spec.group) is ABSENT for item in row.cells)
    return "" if lacks else group_of(spec, row)
