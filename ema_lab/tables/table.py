"""What a table is: cells that carry their numbers, their runs and what is to be said of them.

Every renderer, the page and the check of a written table take this and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

HOLE = "n/a"


class Flag(StrEnum):
    """What a reader must know of a cell. `HOLE`: no run. `MISSING`: some runs are not there."""

    HOLE = "hole"
    MISSING = "missing"
    SINGLE_SEED = "single_seed"
    UNCLEAN = "unclean"
    STALE = "stale"
    PRUNED = "pruned"


class Mark(StrEnum):
    """Where a cell stands in its column, as far as a test supports it; `UNTESTED`: none could be made."""

    BEST = "best"
    SECOND = "second"
    TIE = "tie"
    UNTESTED = "untested"


SIGNS: Mapping[Flag, str] = {Flag.UNCLEAN: "†", Flag.STALE: "‡", Flag.PRUNED: "¶"}
RANK_SIGNS: Mapping[Mark, str] = {Mark.TIE: "≈", Mark.UNTESTED: "?"}
ColumnKind = Literal[
    "metric", "delta", "p", "effect", "detectable", "latency", "count", "cost", "check", "text"
]
SpreadKind = Literal["std", "se", "interval", "bootstrap", "paired_interval", "always_valid"]


@dataclass(frozen=True)
class TableCell:
    """One cell. Numbers are unrounded, in the unit of the records.

    Attributes:
        text: The number as printed, without n and signs; None is a hole.
        count: What is said of n: `n=3`, `n=2 of 3`, or nothing.
        value: The number.
        spread: The number after ±, or half the interval's width; None below two seeds.
        spread_kind: What `spread` is.
        low: The interval's lower bound, where there is one; `high` its upper.
        n: Runs (or pairs) behind the number; `expected`: runs that the ablation asks for.
        p: The p-value, Holm-corrected over the rows of the table.
        values: The numbers behind `value`, one for each of `run_ids`; of an effect, one for each seed.
        run_ids: The runs behind the number; `baseline_run_ids`: the runs that it is compared with.
        missing_run_ids: Runs that the ablation asks for and that are not there.
        flags: What to know of it. `mark`: best, second, tied with the best, or not tested against it.
    """

    text: str | None = None
    count: str = ""
    value: float | int | None = None
    spread: float | None = None
    spread_kind: SpreadKind | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    expected: int = 0
    p: float | None = None
    values: tuple[float, ...] = ()
    run_ids: tuple[str, ...] = ()
    baseline_run_ids: tuple[str, ...] = ()
    missing_run_ids: tuple[str, ...] = ()
    flags: frozenset[Flag] = frozenset()
    mark: Mark | None = None

    @property
    def tail(self) -> str:
        """What follows the number: n in brackets, then signs."""
        signs = [sign for mark, sign in RANK_SIGNS.items() if self.mark is mark]
        signs += [sign for flag, sign in SIGNS.items() if flag in self.flags]
        return "".join(f" {part}" for part in ([f"({self.count})"] if self.count else []) + signs)

    @property
    def plain(self) -> str:
        """The whole cell without marks of rank."""
        return (HOLE if self.text is None else self.text) + self.tail


@dataclass(frozen=True)
class TableColumn:
    """A column. `key` names it in data, `metric` is the metric that its cells show or compare.

    `metric_unit` is the unit of that metric.
    """

    key: str
    label: str
    kind: ColumnKind
    metric: str | None = None
    metric_unit: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row. `key` is its name in data, `name` the one in print.

    Attributes:
        seeds: Cells that the ablation asks for; `n`: those that are done.
        stale: The parts whose source has changed since some run of the row was done.
        run_ids: All runs of the row, there or not.
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
    """Rows of cells under columns, with a caption that says what every sign is.

    Attributes:
        name: The stem of its files. `row_label`: the header of the rows' names; `group_label`: that of
            the groups', empty where rows are not grouped.
        notes: The caption's sentences, after the title.
        footnotes: Texts of the numbers that rows carry, from 1.
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
        """The header's texts, those of the groups and of the rows' names first."""
        first = (self.group_label, self.row_label) if self.group_label else (self.row_label,)
        return (*first, *(column.label for column in self.columns))

    @property
    def lines(self) -> tuple[tuple[str | None, ...], ...]:
        """The rows' texts without marks of rank; a hole is None."""
        return tuple(
            (row.name, *(None if cell.text is None else cell.plain for cell in row.cells))
            for row in self.rows
        )
