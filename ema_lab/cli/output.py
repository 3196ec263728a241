"""Output: data on standard output, messages on standard error."""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from ema_lab.characters import escape_hidden
from ema_lab.cli.volume import is_quiet


def say(*lines: str, always: bool = False) -> None:
    """Print messages for a person, on standard error. If it is full, messages are lost and work goes on.

    `always`: with -q, too, as errors and failures are.
    """
    for line in lines if always or not is_quiet() else ():
        try:
            print(escape_hidden(line), file=sys.stderr, flush=True)
        except BrokenPipeError:
            raise
        except OSError:
            discard(sys.stderr)


class ClosedOutput(io.TextIOWrapper):
    """Stand-in for a closed standard output: drops text, and notes in `lost` that there was some."""

    lost = False

    def write(self, text: str) -> int:
        self.lost = self.lost or bool(text)
        return len(text)


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller has closed.

    Otherwise the next file that is opened, such as a record, would take the stream's file descriptor, and
    messages would be printed into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            if name == "stdout":
                sys.stdout = ClosedOutput(os.fdopen(number, "wb"), encoding="utf-8")
            else:
                setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def output_works() -> bool:
    """Return whether standard output still accepts data, by printing an empty line."""
    try:
        print(flush=True)  # an unbuffered stream does not report the failure of an earlier print again
    except OSError:
        return False
    return True


def is_printable(text: str) -> bool:
    """Return whether standard output's encoding has every character of a text."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def discard(stream: TextIO) -> None:
    """Redirect a standard stream to the null device: Python flushes it again at exit, which would fail."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def put(text: object = "", end: str = "\n") -> None:
    """Print data on standard output."""
    print(escape_hidden(str(text)), end=end)


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    as_csv: bool = False,
    labels: Mapping[str, str] | None = None,
    numbers: bool = False,
) -> None:
    """Print flat objects: as a JSON array, as CSV, or as an aligned table.

    `numbers`: all columns but the first are numbers, and end at the right.

    The header has their keys, or the label that `labels` has for a key.
    """
    if as_json:
        put(json.dumps(list(rows), indent=1, allow_nan=False))
        return
    if as_csv:
        from ema_lab.tables.csv_text import render_csv

        put(render_csv(rows), end="")
        return
    if not rows:
        return
    header = list(rows[0])
    lines = [
        [escape_hidden((labels or {}).get(key, key), allowed="") for key in header],
        *([escape_hidden(_cell_text(row[key]), allowed="") for key in header] for row in rows),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    form = "  ".join(f"{{:{'>' if numbers and i else '<'}{width}}}" for i, width in enumerate(widths))
    for line in lines:  # their cells are escaped
        print(form.format(*line).rstrip())


def _cell_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 100_000:
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if value else "0"
    return str(value)
