"""Files of a report: every table in every format, the page, the figures."""

import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ema_lab.reports.figures.assemble import report_figures
from ema_lab.reports.figures.style import FILES
from ema_lab.reports.page.page import report_page
from ema_lab.reports.report import Report
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.html import render_html
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import flat_records, render_csv, render_json, render_markdown
from ema_lab.tables.table import Table

PAGE, DATA, FIGURES = "index.html", "report.json", "figures"
RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": render_markdown,
    "tex": render_latex,
    "csv": lambda table: render_csv(flat_records(table)),
    "html": render_html,
}


def report_files(report: Report) -> dict[str, str]:
    """Return the text of every table file of a report, by file name."""
    files: dict[str, str] = {}
    for table in report.tables:
        stem = re.sub(r"[^\w.-]+", "-", table.name)
        files |= {f"{stem}.{ending}": render(table) for ending, render in RENDERERS.items()}
    return files | {DATA: render_json(report.name, report.tables)}


def all_files(spec: ReportSpec, report: Report, store: RunStore) -> dict[str, str | bytes]:
    """Return every file of a report by name: tables and page as text, figures in `figures/` as bytes.

    Raises:
        SpecError: If a figure needs a key that the ablations or their records lack.
    """
    page = {PAGE: report_page(spec, report, store)}
    return {**report_files(report), **page, **figure_files(spec, store)}


def unmade_files(spec: ReportSpec, made: Collection[str]) -> list[str]:
    """Return the files that the report would make from other records. Existing ones are leftovers.

    Effects need a full grid, and a figure's pictures need something to draw.

    Args:
        spec: Spec of the report.
        made: Names of the files that the report makes, including figures that were left out.
    """
    tables = ("effects", "factors") if spec.kind == "grid" else ()
    effects = [f"{name}.{ending}" for name in tables for ending in RENDERERS]
    figures = [f"{FIGURES}/{figure.name}" for figure in spec.figures]
    pictures = [f"{name}.{ending}" for name in figures if f"{name}.txt" in made for ending in FILES]
    return [name for name in effects + pictures if name not in made]


def figure_files(spec: ReportSpec, store: RunStore) -> dict[str, str | bytes]:
    """Return the files of all figures; captions are text."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [path for figure in report_figures(spec, store) for path in figure.write(Path(folder))]
        return {
            f"{FIGURES}/{path.name}": path.read_text("utf-8") if path.suffix == ".txt" else path.read_bytes()
            for path in paths
        }
