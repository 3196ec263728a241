"""Comparison of a written page with the records: tables, data, and the rest."""

import hashlib
import re
from collections.abc import Iterator
from itertools import zip_longest

from ema_lab.reports.check.data import json_differences, name_in_page
from ema_lab.reports.check.difference import Difference, line_differences
from ema_lab.reports.check.table import table_differences

TABLE = re.compile(r'<table class="report".*?</table>', re.DOTALL)
DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)

PROGRAM = re.compile(r"(<(?:style|script|pre tabindex=\"0\")>)(.*?)(</)", re.DOTALL)


def page_differences(file: str, written: str, built: str) -> Iterator[Difference]:
    """Yield each table cell, each value of a run and each other line that differs."""
    tables = zip_longest(TABLE.findall(written), TABLE.findall(built), fillvalue="")
    for written_table, built_table in tables:
        yield from table_differences(file, ".html", written_table, built_table)
    [built_data] = DATA.findall(built)
    written_data = DATA.findall(written)
    if len(written_data) == 1:
        yield from json_differences(file, written_data[0], built_data, name_in_page)
    else:
        yield Difference(file, problem=f"has {len(written_data)} data elements instead of one")
    yield from line_differences(file, "outside of the cells", _around(written), _around(built))


def _around(page: str) -> list[str]:
    """Return the lines outside of tables and data, with hashes in place of the page's style and program."""
    shortened = PROGRAM.sub(_hash, DATA.sub("", TABLE.sub("", page)))
    return shortened.splitlines()


def _hash(match: re.Match[str]) -> str:
    digest = hashlib.sha256(match[2].encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{match[1]}sha256 {digest}{match[3]}"
