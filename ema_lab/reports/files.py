"""The files of a report: every table in every format, the page, the figures."""

import re
import tempfile
from pathlib import Path

from ema_lab.experiments.store import RunStore
from ema_lab.reports.build import Report
from ema_lab.reports.figures.build import report_figures
from ema_lab.reports.html import render_html
from ema_lab.reports.latex import render_latex
from ema_lab.reports.page.source import report_page
from ema_lab.reports.render import flat_records, render_csv, render_json, render_markdown
from ema_lab.specs.report import ReportSpec

PAGE, DATA, FIGURES = "index.html", "report.json", "figures"


def report_files(report: Report) -> dict[str, str]:
    """Return the text of every file of a report's tables, by name."""
    files: dict[str, str] = {}
    for table in report.tables:
        stem = re.sub(r"[^\w.-]+", "-", table.name)
        files |= {
            f"{stem}.md": render_markdown(table),
            f"{stem}.tex": render_latex(table),
            f"{stem}.csv": render_csv(flat_records(table)),
            f"{stem}.html": render_html(table),
        }
    return files | {DATA: render_json(report.name, report.tables)}


def all_files(spec: ReportSpec, report: Report, store: RunStore) -> dict[str, str | bytes]:
    """Return every file of a report, by name: tables and page as text, figures (below `figures/`) as bytes.

    Raises:
        SpecError: If a figure asks for what the ablations or their records do not have.
    """
    page = {PAGE: report_page(spec, report, store)}
    return {**report_files(report), **page, **_figure_files(spec, store)}


def _figure_files(spec: ReportSpec, store: RunStore) -> dict[str, str | bytes]:
    """Return the files of all figures; captions are text."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [path for figure in report_figures(spec, store) for path in figure.write(Path(folder))]
        return {
            f"{FIGURES}/{path.name}": path.read_text("utf-8") if path.suffix == ".txt" else path.read_bytes()
            for path in paths
        }
