"""Rendering of a table as an HTML fragment without script or style.

Data attributes carry all that the page needs to sort rows and open runs.
"""

import html
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ema_lab.tables.cell import HOLE, Mark, TableCell
from ema_lab.tables.text import one_line

if TYPE_CHECKING:
    from ema_lab.tables.table import Table, TableRow

TAGS = {Mark.BEST: "strong", Mark.SECOND: "u"}


def render_html(table: "Table") -> str:
    """Return a `<table>` whose cells carry their data as attributes.

    A cell has `data-value` (unrounded), `data-n`, `data-runs` (the runs behind the number, then the missing
    ones) and `data-baseline-runs`. Flags and marks are classes: `stale`, `unclean`, `hole`, `missing`,
    `single_seed`, `pruned`, `best`, `second`, `untested`, `equivalent`. Each group of
    rows is a `<tbody>` under a spanning name.
    """
    notes = [escape(note) for note in table.notes]
    notes += [f"<sup>{number}</sup> {escape(text)}" for number, text in enumerate(table.footnotes, start=1)]
    kinds = ["name"] * (len(table.header) - len(table.columns)) + [column.kind for column in table.columns]
    header = "".join(
        f'<th scope="col" data-kind="{kind}">{escape(text)}</th>'
        for kind, text in zip(kinds, table.header, strict=True)
    )
    lines = [
        f'<table class="report" id="{escape(table.name)}">',
        f"<caption>{escape(table.title).strip()}</caption>",
        f"<thead><tr>{header}</tr></thead>",
        *_bodies(table),
        f'<tfoot><tr><td colspan="{len(table.header)}">{"<br>".join(notes)}</td></tr></tfoot>',
        "</table>",
    ]
    return "\n".join(lines) + "\n"


def _bodies(table: "Table") -> Iterator[str]:
    for group, rows in itertools.groupby(table.rows, lambda row: row.group):
        members = list(rows)
        yield "<tbody>"
        for number, row in enumerate(members):
            span = f'<th scope="rowgroup" rowspan="{len(members)}">{escape(group)}</th>'
            yield _row(row, span if table.group_label and number == 0 else "")
        yield "</tbody>"


def _row(row: "TableRow", head: str) -> str:
    marks = f"<sup>{','.join(map(str, row.footnotes))}</sup>" if row.footnotes else ""
    name = f'<th scope="row">{escape(row.name)}{marks}</th>'
    runs = escape(" ".join(row.run_ids))
    cells = "".join(map(_cell, row.cells))
    return f'<tr data-row="{escape(row.key)}" data-runs="{runs}">{head}{name}{cells}</tr>'


def _cell(cell: TableCell) -> str:
    names = [*sorted(cell.flags), *([cell.mark] if cell.mark else [])]
    values = {
        "class": " ".join(names),
        "data-value": "" if cell.value is None else repr(cell.value),
        "data-n": f"{cell.n}" if cell.n else "",
        "data-runs": " ".join(dict.fromkeys((*cell.run_ids, *cell.missing_run_ids))),
        "data-baseline-runs": " ".join(cell.baseline_run_ids),
    }
    attributes = "".join(f' {key}="{escape(text)}"' for key, text in values.items() if text)
    text = escape(HOLE if cell.text is None else cell.text)
    if cell.mark in TAGS:
        text = f"<{TAGS[cell.mark]}>{text}</{TAGS[cell.mark]}>"
    return f"<td{attributes}>{text}{escape(cell.tail)}</td>"


def escape(text: str) -> str:
    """Escape text for HTML, on one line."""
    return html.escape(one_line(text))
