"""Flat objects as CSV, safe for spreadsheets."""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ema_lab.tables.text import one_line

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a spreadsheet formula


def render_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return flat objects as CSV; a missing value is an empty field.

    Text that starts like a spreadsheet formula gets a leading quotation mark, so that no spreadsheet runs it.
    """
    text = io.StringIO()
    header = list(dict.fromkeys(key for record in records for key in record))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_cell, header))
    writer.writerows([_csv_cell(record.get(key)) for key in header] for record in records)
    return text.getvalue()


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    line = one_line(value)
    start = unicodedata.normalize("NFKC", value[:1])  # spreadsheets take a full-width sign for the usual one
    if not start.startswith(FORMULA) or _is_number(value):
        return line
    return f"'{line}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
