"""Comparison of a written page with the records: tables, data, and the rest."""

import re
from collections.abc import Iterator
from itertools import zip_longest

from ema_lab.reports.check.data import json_differences, run_place
from ema_lab.reports.check.difference import Difference, line_differences
from ema_lab.reports.check.table import table_differences

TABLE = re.compile(r'<table class="report".*?</table>', re.DOTALL)
DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)


def page_differences(file: str, written: str, built: str) -> Iterator[Difference]:
    """Yield each table cell, each value of a run and each other line that differs."""
    tables = zip_longest(TABLE.findall(written), TABLE.findall(built), fillvalue="")
    for mine, right in tables:
        yield from table_differences(file, ".html", mine, right)
    [data] = DATA.findall(built)
    found = DATA.findall(written)
    if len(found) == 1:
        yield from json_differences(file, found[0], data, run_place)
    else:
        yield Difference(file, problem=f"has {len(found)} data elements instead of one")
    yield from line_differences(file, "outside of the cells", _around(written), _around(built))


def _around(page: str) -> list[str]:
    return DATA.sub("", TABLE.sub("", page)).splitlines()
