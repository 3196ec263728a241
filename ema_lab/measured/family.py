"""Family of a test: all rows that an ablation compares, whatever a report shows of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.measured.selection import Row


@dataclass(frozen=True)
class Family:
    """Rows that an ablation compares, in file order, and the rows of them that a report shows.

    Attributes:
        rows: All rows of the ablation. A row that is shown has the cells that are shown; any other row has
            all its cells.
        shown_names: Names of the shown rows.
        groups: Group of each row of `rows`, within which rows are ranked; empty without groups.
    """

    rows: tuple[Row, ...]
    shown_names: frozenset[str]
    groups: tuple[str, ...] = ()

    @property
    def compared(self) -> list[Row]:
        """Rows that are compared with the baseline."""
        return [row for row in self.rows if not row.is_baseline]

    @property
    def num_compared(self) -> int:
        """Number of comparisons with the baseline, at least 1."""
        return max(1, len(self.compared))

    @property
    def num_compared_shown(self) -> int:
        """Number of shown rows that are compared with the baseline."""
        return sum(row.name in self.shown_names for row in self.compared)

    @property
    def num_shown(self) -> int:
        """Number of shown rows, baselines included."""
        return sum(row.name in self.shown_names for row in self.rows)

    @property
    def is_whole(self) -> bool:
        """Whether every row is shown."""
        return self.num_shown == len(self.rows)


def family_of(all_rows: Sequence[Row], filtered: Sequence[Row], shown: Sequence[Row]) -> Family:
    """Return the family of the rows that a report shows.

    Args:
        all_rows: Rows of the whole ablation.
        filtered: Rows that pass the report's filter, which may leave out some of their seeds.
        shown: Rows of `filtered` that the report shows.
    """
    by_name = {row.name: row for row in filtered}
    rows = tuple(by_name.get(row.name, row) for row in all_rows)
    return Family(rows, frozenset(row.name for row in shown))
