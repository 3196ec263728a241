"""HTML page of a report, an overview, a search or a run: one file that needs no network."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ema_lab.characters import escape_hidden
from ema_lab.reports.page.data import report_data
from ema_lab.reports.report import Report
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.html import escape, render_html
from ema_lab.tables.table import Table

INVISIBLE = re.compile("[<\u2028\u2029\u2060]")  # in JSON, an escape stands for each
PLACES = re.compile(r"\{\{(title|tables|data|kind|live)\}\}")


def report_page(spec: ReportSpec, report: Report, store: RunStore) -> str:
    """Render a report as one HTML file."""
    return render_page(report.tables, report_data(spec, report.tables, store))


def render_page(tables: Sequence[Table], data: Mapping[str, Any], *, live: str = "") -> str:
    """Render the page.

    Args:
        tables: Tables of the report.
        data: Data from `page_data`, or of another `kind` of page.
        live: Path from which a served page refreshes itself; empty for a file.
    """
    parts = {
        "title": escape(str(data["title"])),
        "tables": tables_html(tables),
        "data": _script_json(shown_data(data)),
        "kind": escape(str(data.get("kind", "report"))),
        "live": escape(live),
    }
    return PLACES.sub(lambda match: parts[match[1]], template())


def tables_html(tables: Sequence[Table]) -> str:
    """Return the tables of a page, each in a box that scrolls."""
    return "\n".join(f'<div class="scroll">{render_html(table)}</div>' for table in tables)


@cache
def template() -> str:
    """Return the page without its content: style, program and licences, built from `frontend/`."""
    return files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def shown_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data with visible texts only. Renderers have already escaped the tables to copy."""
    return {key: value if key == "tables" else visible(value) for key, value in data.items()}


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
    return INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
