"""Which ablations a report is made of, and the page that shows it."""

from typing import Any

from ema_lab.experiments.ablation import Ablation, load_ablation
from ema_lab.experiments.store import RunStore
from ema_lab.reports.build import Report
from ema_lab.reports.page.data import page_data
from ema_lab.reports.page.page import render_page
from ema_lab.specs.definition import find_definition
from ema_lab.specs.published_file import load_published
from ema_lab.specs.report import ReportSpec


def report_ablations(spec: ReportSpec, store: RunStore) -> list[Ablation]:
    """Return the ablations whose runs a report shows, each once."""
    names = list(spec.ablations.values()) or [spec.ablation]
    if spec.kind == "claims":
        published = load_published(find_definition("reports/published", spec.published))
        linked = ((row.ablation or table.ablation) for _, table, _, row in published.rows() if row.variant)
        names = [name for name in linked if name]
    ablations = [load_ablation(name) for name in dict.fromkeys(names)]
    if spec.seeds == "decided":
        ablations = [ablation.with_found_seeds(store.folder_names()) for ablation in ablations]
    return ablations


def report_data(spec: ReportSpec, store: RunStore) -> dict[str, Any]:
    """Return the data of a report's page."""
    ablations = report_ablations(spec, store)
    return page_data(spec.name, spec.title or spec.name, ablations, store)


def report_page(spec: ReportSpec, report: Report, store: RunStore) -> str:
    """Return a report as one HTML file."""
    return render_page(report.tables, report_data(spec, store))
