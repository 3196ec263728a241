"""Notes on the marks of rank below a table: what they mean, and where no test decides."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.measured.family import Family
from ema_lab.measured.selection import Row
from ema_lab.reports.naming import display_name
from ema_lab.reports.table.comparison import Marks
from ema_lab.reports.table.pooled import paired_words
from ema_lab.specs.report import ReportSpec
from ema_lab.tables.cell import MARK_SIGNS, Flag, Mark, TableCell
from ema_lab.tables.table import TableRow

MOST_NAMED = 10


@dataclass(frozen=True)
class Ranked:
    """Ranked column.

    Attributes:
        cells: Shown cells.
        marks: Marks of all rows, shown or not.
        rivals: Shown cells of groups that show several; None if all are.
    """

    cells: tuple[TableCell, ...]
    marks: Marks
    rivals: tuple[TableCell, ...] | None = None


def rank_notes(spec: ReportSpec, ranked: Mapping[str, Ranked], *families: Family) -> list[str]:
    """Explain bold, underlined and untested marks, and name the columns that no test decides.

    Args:
        spec: The report.
        ranked: Ranked columns by label.
        families: Rows among which they are ranked.
    """
    if not spec.rank or spec.is_decided:
        return []
    is_transposed = spec.kind == "classes" and spec.across == "rows"
    unit = "cell" if spec.kind == "grid" else "column" if is_transposed else "row"
    test = _rank_test(spec, unit, len(ranked), families)
    cells = [cell for column in ranked.values() for cell in column.cells]
    marks = {cell.mark for cell in cells}
    others = " tested" if any(column.marks.untested for column in ranked.values()) else ""
    others = f"every other{others} {unit}" + (" of its group" if spec.group else "")
    others += " that has runs" if any(Flag.HOLE in cell.flags for cell in cells) else ""
    others += "" if all(family.is_whole for family in families) else " (shown or not)"
    notes = []
    if Mark.BEST in marks:
        second = "; underlined: second to it, and better than the rest" if Mark.SECOND in marks else ""
        notes.append(f"Bold: better than {others}{second} ({test}).")
    elif Mark.SECOND in marks:
        notes.append(f"Underlined: better than {others} except the best ({test}).")
    notes += _untested_notes(spec, ranked)
    for label, column in ranked.items():
        if column.marks.hidden_best:
            best = ", ".join(_row_name(spec, row) for row in column.marks.hidden_best)
            notes.append(f"The best {unit} in {label} is not shown: {best} ({test}).")
    undecided = {
        label: column.cells
        for label, column in ranked.items()
        if _is_undecided(column.cells if column.rivals is None else column.rivals)
        and not column.marks.hidden_best
    }
    single = [label for label, column in undecided.items() if all(cell.n < 2 for cell in column)]
    tested = [label for label in undecided if label not in single]
    if single:
        notes.append(f"No {unit} is marked as the best in {listed(single)}: single seeds allow no test.")
    if tested:
        reason = f"no test tells it apart ({test})"
        notes.append(f"No {unit} is marked as the best in {listed(tested)}: {reason}.")
    return notes


def _rank_test(spec: ReportSpec, unit: str, num_columns: int, families: Sequence[Family]) -> str:
    """Describe the tests behind marks of rank, and their correction."""
    is_whole = all(family.is_whole for family in families)
    pairs = f"all pairs of {unit}s" + (" within their groups" if spec.group else "")
    pairs += "" if is_whole else f" of the ablation, of which {_shown_of(families)} are shown"
    column = "row" if spec.kind == "classes" and spec.across == "rows" else "column"
    pairs += f", each {column} by itself" if num_columns > 1 else ""
    return f"{paired_words(spec, 's')}, Holm-corrected over {pairs}, 5 %"


def _untested_notes(spec: ReportSpec, ranked: Mapping[str, Ranked]) -> list[str]:
    """Name the rows that no test has seen; they block no mark."""
    names_by_label = {
        label: ", ".join(_row_name(spec, row) for row in column.marks.untested)
        for label, column in ranked.items()
        if column.marks.untested
    }
    distinct = list(dict.fromkeys(names_by_label.values()))
    if not distinct:
        return []
    everywhere = len(distinct) == 1 and len(names_by_label) == len(ranked)
    by_column = "; ".join(f"{names} in {label}" for label, names in names_by_label.items())
    names = distinct[0] if everywhere else by_column
    why = "a test needs two seeds in common with another row, and differences that are not all equal"
    return [f"{MARK_SIGNS[Mark.UNTESTED]}: in no test, so neither better nor worse: {names} ({why})."]


def _row_name(spec: ReportSpec, row: Row) -> str:
    return row.name if spec.kind == "grid" or spec.group else display_name(spec, row.cells[0].cell)


def _shown_of(families: Sequence[Family]) -> str:
    """Return `3 of 8`: the number of shown rows of all families together, and of all rows."""
    shown = sum(family.num_shown for family in families)
    return f"{shown} of {sum(len(family.rows) for family in families)}"


def listed(labels: Sequence[str]) -> str:
    """Return the first labels and the number of the others; a table of classes has up to hundreds."""
    more = len(labels) - MOST_NAMED
    return ", ".join(labels[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def with_rivals(cells: Sequence[TableCell], body: Sequence[TableRow]) -> list[TableCell]:
    """Return the cells of a column that are ranked: those in groups with several values."""
    groups = [row.group for row in body]
    counts = Counter(group for group, cell in zip(groups, cells, strict=True) if cell.value is not None)
    return [cell for group, cell in zip(groups, cells, strict=True) if counts[group] > 1]


def _is_undecided(cells: Sequence[TableCell]) -> bool:
    """Return whether cells are comparable, yet none of them is the best."""
    return sum(cell.value is not None for cell in cells) > 1 and all(
        cell.mark not in {Mark.BEST, Mark.SECOND} for cell in cells
    )
