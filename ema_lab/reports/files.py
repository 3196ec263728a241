"""The files of a report: every table in every format."""

import re

from ema_lab.reports.build import Report
from ema_lab.reports.html import render_html
from ema_lab.reports.latex import render_latex
from ema_lab.reports.render import flat_records, render_csv, render_json, render_markdown


def report_files(report: Report) -> dict[str, str]:
    """Return the text of every file of a report, by name."""
    files: dict[str, str] = {}
    for table in report.tables:
        stem = re.sub(r"[^\w.-]+", "-", table.name)
        files |= {
            f"{stem}.md": render_markdown(table),
            f"{stem}.tex": render_latex(table),
            f"{stem}.csv": render_csv(flat_records(table)),
            f"{stem}.html": render_html(table),
        }
    return files | {"report.json": render_json(report.name, report.tables)}
