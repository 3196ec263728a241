"""Printing: data on standard output, words on standard error."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.characters import escape_hidden
from ema_lab.errors import SpecError, StoreError
from ema_lab.store.store import RunStore

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array of flat objects instead.")]
Store = Annotated[
    Path, typer.Option("--store", envvar="EMA_LAB_STORE", help="Folder of the runs.", show_default=True)
]
Data = Annotated[
    Path, typer.Option("--data", envvar="EMA_LAB_DATA", help="Folder of the data sets.", show_default=True)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
LoaderWorkers = Annotated[
    int,
    typer.Option("--loader-workers", min=0, help="Processes per run that decode images; 0 uses none."),
]
Track = Annotated[str | None, typer.Option("--track", help="Mirror the runs live: wandb.")]
AblationName = Annotated[str, typer.Argument(help="A path, or a name as `ema-lab list ablations` prints it.")]
DEFAULT_STORE = Path("runs")
DEFAULT_DATA = Path("data")


def say(*lines: str) -> None:
    """Print words for a person, on standard error."""
    for line in lines:
        print(escape_hidden(line), file=sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Open the null device in the place of standard streams that the caller has closed.

    Otherwise the next files that are opened, a record for one, would take the streams' numbers.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def output_works() -> bool:
    """Whether standard output takes what was printed so far, and an empty line."""
    try:
        print(flush=True)  # a stream without a buffer has forgotten what it could not take
    except OSError:
        return False
    return True


def is_printable(text: str) -> bool:
    """Whether standard output's encoding has every character of a text."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def discard_output() -> None:
    """Let what standard output could not take go nowhere, so that Python's end does not try again."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def put(text: object = "", end: str = "\n") -> None:
    """Print data on standard output."""
    print(escape_hidden(str(text)), end=end)


def existing_store(path: Path) -> RunStore:
    """Return the store of a command that only reads.

    Raises:
        StoreError: If a store that was named is not there. Before the first run, there is none by default.
    """
    if path != DEFAULT_STORE and not path.exists():
        raise StoreError(f"the store {path} does not exist (--store, or EMA_LAB_STORE)")
    return RunStore(path)


def store_to_come(path: Path) -> RunStore:
    """Return the store of a command that makes sense before the first run, and say if it is not there."""
    if path != DEFAULT_STORE and not path.exists():
        say(f"the store {path} does not exist yet (--store, or EMA_LAB_STORE)")
    return RunStore(path)


def as_asked(ablation: str, store: Path) -> str:
    """Return how a command that is hinted at names the ablation and the store that this one was given."""
    return ablation if store == DEFAULT_STORE else f"{ablation} --store {store}"


def make_folder(path: Path) -> None:
    """Make the folder that `--out` names.

    Raises:
        SpecError: If that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if path.is_file() else f"cannot be made: {error.strerror}"
        raise SpecError(f"--out must be a folder, but {path} {reason}") from None


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, labels: Mapping[str, str] | None = None
) -> None:
    """Print flat objects: as a JSON array, or as an aligned table.

    Its header has their keys, or what `labels` calls them.
    """
    if as_json:
        put(json.dumps(list(rows), indent=1, allow_nan=False))
        return
    if not rows:
        return
    header = list(rows[0])
    lines = [
        [escape_hidden((labels or {}).get(key, key), allowed="") for key in header],
        *([escape_hidden(_shown(row[key]), allowed="") for key in header] for row in rows),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        put("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 100_000:
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
