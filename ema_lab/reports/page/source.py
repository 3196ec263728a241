"""Page of a report."""

from collections.abc import Iterable
from typing import Any

from ema_lab.reports.page.data import page_data
from ema_lab.reports.page.page import render_page
from ema_lab.reports.report import Report
from ema_lab.reports.row_order import report_rows
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.table import Table


def report_data(spec: ReportSpec, tables: Iterable[Table], store: RunStore) -> dict[str, Any]:
    """Return the data of the page that shows these tables of a report."""
    return page_data(spec, report_rows(spec, store), tables, store)


def report_page(spec: ReportSpec, report: Report, store: RunStore) -> str:
    """Render a report as one HTML file."""
    return render_page(report.tables, report_data(spec, report.tables, store))
