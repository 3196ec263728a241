"""Tables as data: rows of cells with their numbers, runs, flags and marks.

All renderers, the page and the check of a written table read this form only.
"""

from dataclasses import dataclass, field
from typing import Literal

from ema_lab.tables.cell import TableCell
from ema_lab.tables.html import render_html

ColumnKind = Literal[
    "metric",
    "delta",
    "p",
    "effect",
    "pairing",
    "detectable",
    "latency",
    "count",
    "cost",
    "check",
    "text",
    "images",
    "images_delta",
    "intention",
    "discordant",
]


@dataclass(frozen=True)
class TableColumn:
    """Column of a table.

    Attributes:
        key: Name in data.
        label: Header text.
        kind: Kind of the cells.
        metric: Metric that the cells show or compare, if any.
        metric_unit: Unit of that metric.
    """

    key: str
    label: str
    kind: ColumnKind
    metric: str | None = None
    metric_unit: str = ""


@dataclass(frozen=True)
class TableRow:
    """Row of a table.

    Attributes:
        key: Name in data.
        name: Name in rendered tables.
        seeds: Number of cells in the ablation.
        n: Number of cells that are done.
        stale: Parts whose source has changed since a run of the row was done.
        run_ids: All runs of the row, done or not.
    """

    key: str
    name: str
    cells: tuple[TableCell, ...]
    group: str = ""
    footnotes: tuple[int, ...] = ()
    is_baseline: bool = False
    seeds: int = 0
    n: int = 0
    stale: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Table of rows and columns, with a caption that explains every sign.

    Attributes:
        name: Stem of the table's files.
        row_label: Header of the row names.
        notes: Sentences of the caption, after the title.
        group_label: Header of the group names; empty without groups.
        footnotes: Texts of the footnotes, numbered from 1.
    """

    name: str
    title: str
    row_label: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    group_label: str = ""
    footnotes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row.cells) != len(self.columns):
                raise ValueError(f"row {number} has {len(row.cells)} cells, not {len(self.columns)}")

    @property
    def header(self) -> tuple[str, ...]:
        """The header texts: group label (if any), row label, columns."""
        first = (self.group_label, self.row_label) if self.group_label else (self.row_label,)
        return (*first, *(column.label for column in self.columns))

    @property
    def lines(self) -> tuple[tuple[str | None, ...], ...]:
        """The texts of each row without the marks of rank; a hole is None."""
        return tuple(
            (row.name, *(None if cell.text is None else cell.plain_text for cell in row.cells))
            for row in self.rows
        )

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        return render_html(self)
