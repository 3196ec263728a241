"""The table of a run's start weights: what became of each tensor of its model."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ema_lab.files import write_text
from ema_lab.store.layout import RUN_ID_FIELD, START


class Started(Protocol):
    """One tensor of the model; see `ema_lab.models.start.StartTensor`."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def found(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def write_start(folder: Path, table: Iterable[Started], run_id: str) -> None:
    """Write `start.csv`: name and shape in the model, name in the file, and what became of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([RUN_ID_FIELD, "tensor", "shape", "in_file", "outcome"])
    for one in table:
        writer.writerow([run_id, one.name, "x".join(map(str, one.shape)), one.found, one.outcome])
    write_text(folder / START, text.getvalue(), durable=False)
