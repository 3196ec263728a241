"""Text as Markdown (GitHub's) reads it: every sign stands for itself."""

import re

from ema_lab.tables.text import one_line

# Escaped only where Markdown would read it: `fashion_mnist` and `ema [groups=4]` stay as they are.
_READ = re.compile(
    r"[\\`*~$|]"
    r"|(?<![^\W_])(?<!_)_++|(?<!_)_++(?![^\W_])"  # inside a word, an underscore is one
    r"|<(?=[A-Za-z/!?])"
    r"|&(?=#?\w+;)"
    r"|(?<=\])[(\[:]"  # what makes a link of brackets
)
_BEGINS = re.compile(
    r"(\d{1,9}(?=[.)](?:\s|$)))|(?=>|[-+=#](?!\d))"
)  # a list, a quotation, a rule, a heading
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def escaped(text: str) -> str:
    """Return text, on one line, that Markdown shows as it is inside a cell or a sentence."""
    return _READ.sub(lambda found: "".join(f"\\{sign}" for sign in found[0]), one_line(text))


def escaped_line(text: str) -> str:
    """Return text that Markdown shows as it is, as a line of its own."""
    line = escaped(text).strip()
    begins = _BEGINS.match(line)
    return f"{begins[0]}\\{line[begins.end() :]}" if begins else line


def cells_of(line: str) -> list[str]:
    """Return the cells of a table's line as they are shown; an escaped bar ends none."""
    cells = re.findall(r"((?:\\.|[^|\\])*)(?:\||$)", line.strip().removeprefix("|"))
    return [
        _ESCAPED.sub(r"\1", cell.strip()) for cell in cells[: -1 if line.rstrip().endswith("|") else None]
    ]
