"""Tables of published numbers beside finished runs."""

from collections.abc import Sequence

from ema_lab.audit.audit import Evidence, audit
from ema_lab.audit.runs import linked_rows
from ema_lab.audit.table import audit_tables
from ema_lab.measured.selection import Row
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.definition import find_definition
from ema_lab.specs.published import PublishedSpec
from ema_lab.specs.published_file import load_published
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.table import Table


def published_tables(spec: ReportSpec) -> PublishedSpec:
    """Return the tables of published numbers that a report shows.

    Raises:
        SpecError: If the file lacks a table that the report names.
    """
    published = load_published(find_definition("reports/published", spec.published))
    for number, name in enumerate(spec.tables):
        if name not in published.tables:
            raise spec.error_at(unknown_name("table", name, published.tables), "tables", number)
    kept = {name: published.tables[name] for name in spec.tables} or published.tables
    return published.model_copy(update={"tables": kept})


def claims_tables(spec: ReportSpec, store: RunStore) -> tuple[tuple[Table, ...], Sequence[Row]]:
    """Compare published numbers with finished runs and the costs in their records; build no model.

    Returns:
        The tables, and the rows of the runs that the numbers name.
    """
    published = published_tables(spec)
    runs = linked_rows(published, find_definition("reports/published", spec.published), store)
    costs = {position: _record_costs(row) for position, row in runs.items() if row.records}
    tables = audit_tables(published, audit(published, Evidence(costs, runs)), runs)
    return tuple(tables), list(runs.values())


def _record_costs(row: Row) -> dict[str, int]:
    """Return the counts in the record of a row's first finished run."""
    return {key: count for key, count in row.records[0].cost.items() if isinstance(count, int)}
