"""A report as one HTML file that needs no network: its tables, figures, runs, and what is missing."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ema_lab.characters import escape_hidden
from ema_lab.tables.html import escape, render_html
from ema_lab.tables.table import Table


def render_page(tables: Sequence[Table], data: Mapping[str, Any], *, live: str = "") -> str:
    """Return the page.

    Args:
        tables: Of the report.
        data: What `page_data` returns.
        live: Where the page fetches itself again while a grid runs; empty for a file.
    """
    parts = {
        "title": escape(str(data["title"])),
        "style": _asset("page.css"),
        "script": _asset("page.js"),
        "tables": "\n".join(f'<div class="scroll">{render_html(table)}</div>' for table in tables),
        "data": _script_json(shown(data)),
        "live": escape(live),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def shown(value: Any) -> Any:
    """Return plain data whose texts have no character that a reader does not see, but for line breaks."""
    if isinstance(value, str):
        return escape_hidden(value)
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list | tuple) else value


def _script_json(value: Any) -> str:
    """Return JSON that no text in it can end the script element of."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
