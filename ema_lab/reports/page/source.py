"""The page of a report."""

from typing import Any

from ema_lab.experiments.store import RunStore
from ema_lab.reports.build import Report
from ema_lab.reports.page.data import page_data
from ema_lab.reports.page.page import render_page
from ema_lab.reports.shown import report_rows
from ema_lab.specs.report import ReportSpec


def report_data(spec: ReportSpec, store: RunStore) -> dict[str, Any]:
    """Return the data of a report's page."""
    return page_data(spec, report_rows(spec, store), store)


def report_page(spec: ReportSpec, report: Report, store: RunStore) -> str:
    """Return a report as one HTML file."""
    return render_page(report.tables, report_data(spec, store))
