"""HTML page of a report: one file without network access, with tables, figures and runs."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ema_lab.characters import escape_hidden
from ema_lab.reports.page.data import report_data
from ema_lab.reports.report import Report
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.html import escape, render_html
from ema_lab.tables.table import Table


def report_page(spec: ReportSpec, report: Report, store: RunStore) -> str:
    """Render a report as one HTML file."""
    return render_page(report.tables, report_data(spec, report.tables, store))


def render_page(tables: Sequence[Table], data: Mapping[str, Any], *, live: str = "") -> str:
    """Render the page.

    Args:
        tables: Tables of the report.
        data: Data from `page_data`.
        live: Path from which a served page refreshes itself; empty for a file.
    """
    parts = {
        "title": escape(str(data["title"])),
        "style": _asset("page.css"),
        "script": _asset("page.js"),
        "tables": "\n".join(f'<div class="scroll">{render_html(table)}</div>' for table in tables),
        "data": _script_json(visible(data)),
        "live": escape(live),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def visible(value: Any) -> Any:
    """Return plain data without invisible characters in its texts, except line breaks."""
    if isinstance(value, str):
        return escape_hidden(value)
    if isinstance(value, Mapping):
        return {key: visible(item) for key, item in value.items()}
    return [visible(item) for item in value] if isinstance(value, list | tuple) else value


def _script_json(value: Any) -> str:
    """Return JSON in which no text can close the script element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
