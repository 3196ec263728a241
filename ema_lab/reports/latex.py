"""A table as LaTeX, for the packages booktabs, multirow and amssymb."""

import itertools
import re

from ema_lab.reports.render import left_columns
from ema_lab.reports.table import HOLE, Mark, Table, TableCell, TableRow

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
        "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "±": r"$\pm$", "Δ": r"$\Delta$", "†": r"$\dagger$", "‡": r"$\ddagger$",
        "×": r"$\times$", "[": "{[}", "]": "{]}", "|": r"\textbar{}", "≈": r"$\approx$", "¶": r"\P{}",
        "√": r"$\surd$", "✓": r"$\checkmark$", "–": "--", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$",
    }
)  # fmt: skip
MINUS = re.compile(r"(?<!\w)-(?=\d)")
MARKS = {Mark.BEST: r"\textbf{%s}", Mark.SECOND: r"\underline{%s}"}


def escaped(text: str) -> str:
    """Return text in which LaTeX reads every sign as itself, and a minus is no hyphen."""
    return MINUS.sub("$-$", text.translate(_LATEX))


def render_latex(table: Table) -> str:
    """Return a `table` environment for the package booktabs, with groups of rows for multirow."""
    left = left_columns(table)
    lines = [
        f"% needs \\usepackage{{{','.join(_packages(table))}}}",
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
    return "\n".join(lines) + "\n"


def _packages(table: Table) -> list[str]:
    has_checks = any(column.kind == "check" for column in table.columns)
    return ["booktabs"] + ["multirow"] * bool(table.group_label) + ["amssymb"] * has_checks


def _caption(table: Table) -> str:
    notes = [f"$^{{{number}}}$ {escaped(text)}" for number, text in enumerate(table.footnotes, start=1)]
    return " ".join([escaped(table.title.rstrip(".") + "."), *map(escaped, table.notes), *notes])


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


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
