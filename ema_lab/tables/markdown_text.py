"""Escaping of text for GitHub's Markdown, and its inverse."""

import re

from ema_lab.tables.text import one_line

# Only where Markdown gives a character a meaning: `fashion_mnist` and `ema [groups=4]` stay readable.
_SPECIAL = re.compile(
    r"[\\`*~$|]"
    r"|(?<![^\W_])(?<!_)_++|(?<!_)_++(?![^\W_])"  # inside a word, an underscore has no meaning
    r"|<(?=[A-Za-z/!?])"
    r"|&(?=#?\w+;)"
    r"|(?<=\])[(\[:]"  # turns brackets into a link
)
_LINE_START = re.compile(
    r"(\d{1,9}(?=[.)](?:\s|$)))|(?=>|[-+=#](?!\d))"
)  # a list, a quotation, a rule, a heading
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def escaped(text: str) -> str:
    """Escape text for a Markdown cell or sentence, on one line."""
    return _SPECIAL.sub(lambda match: "".join(f"\\{sign}" for sign in match[0]), one_line(text))


def escaped_line(text: str) -> str:
    """Escape text for a Markdown line of its own."""
    line = escaped(text).strip()
    start = _LINE_START.match(line)
    return f"{start[0]}\\{line[start.end() :]}" if start else line


def cells_of(line: str) -> list[str]:
    """Return the unescaped cells of a Markdown table line; an escaped bar separates no cells."""
    cells = re.findall(r"((?:\\.|[^|\\])*)(?:\||$)", line.strip().removeprefix("|"))
    return [
        _ESCAPED.sub(r"\1", cell.strip()) for cell in cells[: -1 if line.rstrip().endswith("|") else None]
    ]
