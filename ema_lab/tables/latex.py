"""Rendering of a table as LaTeX with the packages booktabs, threeparttable, siunitx, multirow and amssymb."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ema_lab.tables.cell import TableCell
from ema_lab.tables.latex_columns import LatexColumn
from ema_lab.tables.latex_text import escaped, unknown_to_pdflatex
from ema_lab.tables.render import left_columns
from ema_lab.tables.table import Table
from ema_lab.tables.text import one_line

PACKAGES = {
    "booktabs": r"\toprule",
    "threeparttable": r"\begin{threeparttable}",
    "siunitx": "S[table-format=",
    "multirow": r"\multirow",
    "amssymb": r"\checkmark",
}
COMMAND = re.compile(r"(?:;|, and) (ema-lab .+?)\.?$")  # a command line at the end of a note
MAX_LABEL = 60  # characters
MAX_NAMED = 8  # unsupported characters named in the comment


def render_latex(table: Table) -> str:
    """Return a `table` environment with booktabs rules, multirow groups and numbers aligned by siunitx.

    The caption is the title, with n if all cells agree on it. The notes follow below the rows. Leading
    comments name the required packages, the engine if pdflatex lacks a character, and the notes' commands.
    """
    left, count = left_columns(table), _common_count(table)
    columns = [
        LatexColumn(column.label, [_counted_once(row.cells[index], count) for row in table.rows])
        for index, column in enumerate(table.columns)
    ]
    notes, commands = _notes(table)
    caption = escaped(table.title.strip().rstrip(".") + (f" ({count})." if count else "."))
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{caption.strip()}}}",
        rf"\label{{tab:{_label(table)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{''.join(column.spec for column in columns)}}}",
        r"\toprule",
        _line([*map(escaped, table.header[:left]), *(column.header for column in columns)]),
        r"\midrule",
        *_body(table, columns),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    source = "\n".join(lines) + "\n"
    has_holes = any(cell.text is None for row in table.rows for cell in row.cells)
    comments = [*_needs(source, has_holes=has_holes), *(one_line(command) for command in commands)]
    return "".join(f"% {comment}\n" for comment in comments) + source


def _common_count(table: Table) -> str:
    """Return the text about n if all cells that have a number over runs share it; empty otherwise."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    counted = [column for column in columns if any(cell.count for cell in column)]
    counts = {cell.count for column in counted for cell in column if cell.text is not None}
    return counts.pop() if len(counts) == 1 else ""


def _label(table: Table) -> str:
    """Return the title, and the name of one of several tables, in characters that LaTeX takes in a label."""
    words = (table.title, *([table.name] if table.name != "table" else []))
    label = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    return label[:MAX_LABEL].strip("-") or "table"


def _needs(source: str, *, has_holes: bool) -> Iterator[str]:
    """Yield what a source needs; one with holes needs siunitx once they have numbers."""
    if unknown := unknown_to_pdflatex(source):
        named = f"{' '.join(unknown[:MAX_NAMED])}{' ...' if len(unknown) > MAX_NAMED else ''}"
        yield f"needs lualatex or xelatex and a font that has them: pdflatex has no {named}"
    packages = [
        name for name, sign in PACKAGES.items() if sign in source or (name == "siunitx" and has_holes)
    ]
    yield f"needs \\usepackage{{{','.join(packages)}}}"


def _notes(table: Table) -> tuple[list[str], list[str]]:
    """Return the lines of the notes below a table, and the commands that the notes advise."""
    commands = [match[1] for note in table.notes if (match := COMMAND.search(note))]
    items = [rf"\item {escaped(COMMAND.sub('.', note)).strip()}" for note in table.notes]
    items += [rf"\item[{number}] {escaped(text)}" for number, text in enumerate(table.footnotes, start=1)]
    if not items:
        return [], commands
    return [r"\begin{tablenotes}\footnotesize", *items, r"\end{tablenotes}"], commands


def _line(cells: list[str]) -> str:
    """Return a row. An empty group shields a leading `*`, which LaTeX would join to the row end before."""
    text = " & ".join(cells) + r" \\"
    return f"{{}}{text}" if text.startswith("*") else text


def _body(table: Table, columns: Sequence[LatexColumn]) -> list[str]:
    rows = [_row(table, columns, index) for index in range(len(table.rows))]
    if not table.group_label:
        return [_line(row) for row in rows]
    lines: list[str] = []
    for group, members in itertools.groupby(range(len(rows)), lambda index: table.rows[index].group):
        if lines:
            lines.append(r"\midrule")
        first, *others = members
        lines.append(_line([rf"\multirow{{{1 + len(others)}}}{{*}}{{{escaped(group)}}}", *rows[first]]))
        lines += [_line(["", *rows[index]]) for index in others]
    return lines


def _row(table: Table, columns: Sequence[LatexColumn], index: int) -> list[str]:
    row = table.rows[index]
    marks = f"$^{{{','.join(map(str, row.footnotes))}}}$" if row.footnotes else ""
    return [escaped(row.name) + marks, *(column.cell(index) for column in columns)]


def _counted_once(cell: TableCell, count: str) -> TableCell:
    """Return a cell without its n if the n equals `count`, which the caption states."""
    return replace(cell, count="") if count and cell.count == count else cell
