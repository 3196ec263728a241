"""A table's cells as text: terminal, Markdown, LaTeX, CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ema_lab.reports.table import Table

HOLE = "n/a"


def render_text(table: Table) -> str:
    """Return an aligned table for a terminal, the same at every width."""
    lines = [table.header, *((cell or HOLE for cell in row) for row in table.rows)]
    columns = list(zip(*[list(line) for line in lines], strict=True))
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.title, "", aligned[0], rule, *aligned[1:], "", *table.notes]) + "\n"


def render_markdown(table: Table) -> str:
    """Return a Markdown table with its title and notes."""
    align = ("---", *("---:" for _ in table.header[1:]))
    lines = [table.header, align, *table.rows]
    body = [
        f"| {' | '.join((cell or HOLE).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]
    return "\n".join([f"**{table.title}**", "", *body, "", *(f"{note}  " for note in table.notes)]) + "\n"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
        "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "±": r"$\pm$", "Δ": r"$\Delta$", "†": r"$\dagger$", "‡": r"$\ddagger$",
        "×": r"$\times$", "[": "{[}", "]": "{]}", "|": r"\textbar{}",
    }
)  # fmt: skip


def render_latex(table: Table) -> str:
    """Return a `table` environment for the package booktabs."""

    def line(cells: Sequence[str | None]) -> str:
        return " & ".join((cell or HOLE).translate(_LATEX) for cell in cells) + r" \\"

    caption = " ".join([table.title.rstrip(".") + ".", *table.notes]).translate(_LATEX)
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        line(table.header),
        r"\midrule",
        *map(line, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def render_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return flat objects as CSV; what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
