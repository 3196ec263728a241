"""Rendering of a table as LaTeX with the packages booktabs, multirow and amssymb."""

import itertools
from collections.abc import Iterator

from ema_lab.tables.latex_text import escaped, unknown_to_pdflatex
from ema_lab.tables.render import left_columns
from ema_lab.tables.table import HOLE, Mark, Table, TableCell, TableRow

MARKS = {Mark.BEST: r"\textbf{%s}", Mark.SECOND: r"\underline{%s}"}
PACKAGES = {"booktabs": r"\toprule", "multirow": r"\multirow", "amssymb": r"\checkmark"}
MAX_NAMED = 8  # unsupported characters named in the comment


def render_latex(table: Table) -> str:
    """Return a `table` environment with booktabs rules and multirow groups.

    Leading comments name the required packages, and the engine if pdflatex lacks a character.
    """
    left = left_columns(table)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * len(table.columns)}}}",
        r"\toprule",
        _line([escaped(text) for text in table.header]),
        r"\midrule",
        *_body(table),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    source = "\n".join(lines) + "\n"
    return "".join(f"% {need}\n" for need in _needs(source)) + source


def _needs(source: str) -> Iterator[str]:
    if unknown := unknown_to_pdflatex(source):
        named = f"{' '.join(unknown[:MAX_NAMED])}{' ...' if len(unknown) > MAX_NAMED else ''}"
        yield f"needs lualatex or xelatex and a font that has them: pdflatex has no {named}"
    packages = [name for name, sign in PACKAGES.items() if sign in source]
    yield f"needs \\usepackage{{{','.join(packages)}}}"


def _caption(table: Table) -> str:
    notes = [f"$^{{{number}}}$ {escaped(text)}" for number, text in enumerate(table.footnotes, start=1)]
    texts = [escaped(table.title.strip().rstrip(".") + "."), *map(escaped, table.notes), *notes]
    return " ".join(text.strip() for text in texts)


def _line(cells: list[str]) -> str:
    """Return a row. An empty group shields a leading `*`, which LaTeX would join to the row end before."""
    text = " & ".join(cells) + r" \\"
    return f"{{}}{text}" if text.startswith("*") else text


def _body(table: Table) -> list[str]:
    if not table.group_label:
        return [_line(_row(row)) for row in table.rows]
    lines: list[str] = []
    for group, rows in itertools.groupby(table.rows, lambda row: row.group):
        members = list(rows)
        if lines:
            lines.append(r"\midrule")
        for number, row in enumerate(members):
            head = rf"\multirow{{{len(members)}}}{{*}}{{{escaped(group)}}}" if number == 0 else ""
            lines.append(_line([head, *_row(row)]))
    return lines


def _row(row: TableRow) -> list[str]:
    marks = f"$^{{{','.join(map(str, row.footnotes))}}}$" if row.footnotes else ""
    return [escaped(row.name) + marks, *map(_cell, row.cells)]


def _cell(cell: TableCell) -> str:
    text = escaped(HOLE if cell.text is None else cell.text)
    if cell.mark in MARKS:
        text = MARKS[cell.mark] % text
    return text + escaped(cell.tail)
