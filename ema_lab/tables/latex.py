"""Rendering of a table as LaTeX with the packages booktabs, threeparttable, multirow and amssymb."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

from ema_lab.tables.cell import HOLE, Mark, TableCell
from ema_lab.tables.latex_text import escaped, unknown_to_pdflatex
from ema_lab.tables.render import left_columns
from ema_lab.tables.table import Table, TableRow
from ema_lab.tables.text import one_line

MARKS = {Mark.BEST: r"\textbf{%s}", Mark.SECOND: r"\underline{%s}"}
PACKAGES = {
    "booktabs": r"\toprule",
    "threeparttable": r"\begin{threeparttable}",
    "multirow": r"\multirow",
    "amssymb": r"\checkmark",
}
COMMAND = re.compile(r"(?:;|, and) (ema-lab .+?)\.?$")  # a command line at the end of a note
MAX_LABEL = 60  # characters
MAX_NAMED = 8  # unsupported characters named in the comment


def render_latex(table: Table) -> str:
    """Return a `table` environment with booktabs rules and multirow groups.

    The caption is the title, with n if all cells agree on it. The notes follow below the rows. Leading
    comments name the required packages, the engine if pdflatex lacks a character, and the notes' commands.
    """
    left, count = left_columns(table), _common_count(table)
    notes, commands = _notes(table)
    caption = escaped(table.title.strip().rstrip(".") + (f" ({count})." if count else "."))
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{caption.strip()}}}",
        rf"\label{{tab:{_label(table)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * len(table.columns)}}}",
        r"\toprule",
        _line([escaped(text) for text in table.header]),
        r"\midrule",
        *_body(table, count),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    source = "\n".join(lines) + "\n"
    comments = [*_needs(source), *(one_line(command) for command in commands)]
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


def _needs(source: str) -> Iterator[str]:
    if unknown := unknown_to_pdflatex(source):
        named = f"{' '.join(unknown[:MAX_NAMED])}{' ...' if len(unknown) > MAX_NAMED else ''}"
        yield f"needs lualatex or xelatex and a font that has them: pdflatex has no {named}"
    packages = [name for name, sign in PACKAGES.items() if sign in source]
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


def _body(table: Table, count: str) -> list[str]:
    if not table.group_label:
        return [_line(_row(row, count)) for row in table.rows]
    lines: list[str] = []
    for group, rows in itertools.groupby(table.rows, lambda row: row.group):
        members = list(rows)
        if lines:
            lines.append(r"\midrule")
        for number, row in enumerate(members):
            head = rf"\multirow{{{len(members)}}}{{*}}{{{escaped(group)}}}" if number == 0 else ""
            lines.append(_line([head, *_row(row, count)]))
    return lines


def _row(row: TableRow, count: str) -> list[str]:
    marks = f"$^{{{','.join(map(str, row.footnotes))}}}$" if row.footnotes else ""
    return [escaped(row.name) + marks, *(_cell(cell, count) for cell in row.cells)]


def _cell(cell: TableCell, count: str) -> str:
    """Return a cell; its n is left out if it is `count`, which the caption has."""
    if count and cell.count == count:
        cell = replace(cell, count="")
    text = escaped(HOLE if cell.text is None else cell.text)
    if cell.mark in MARKS:
        text = MARKS[cell.mark] % text
    return text + escaped(cell.tail)
