"""Table of a run's start weights: the origin of each tensor of its model."""

import csv
import io
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Protocol

from ema_lab.errors import DamagedFileError
from ema_lab.files import read_bytes, write_text
from ema_lab.specs.run import RunSpec
from ema_lab.store.layout import RUN_ID_FIELD, START
from ema_lab.store.record import RunRecord

_COLUMNS = (RUN_ID_FIELD, "tensor", "shape", "in_file", "outcome")


class Started(Protocol):
    """Origin of one tensor of the model; see `ema_lab.models.start.StartTensor`."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def in_file(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def write_start(folder: Path, table: Iterable[Started], run_id: str) -> None:
    """Write `start.csv`: each tensor's name and shape in the model, its name in the file, and its outcome."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for tensor in table:
        writer.writerow(
            [run_id, tensor.name, "x".join(map(str, tensor.shape)), tensor.in_file, tensor.outcome]
        )
    write_text(folder / START, text.getvalue(), durable=False)


def read_start(folder: Path) -> list[dict[str, str]]:
    """Read the rows of `start.csv`: `tensor`, `shape`, `in_file` and `outcome` of each tensor.

    Raises:
        OSError: If the run has no such file, or the system refuses to read it.
        DamagedFileError: If the file is no such table, or another run's.
    """
    path = folder / START
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8"), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None
    for row in rows:
        if row.keys() != set(_COLUMNS) or None in row.values():
            raise DamagedFileError(f"{path} is damaged: expected the columns {', '.join(_COLUMNS)}")
        if (run_id := row[RUN_ID_FIELD]) != folder.name:
            raise DamagedFileError(f"{path} is the table of start weights of {run_id!r}")
    return rows


def start_problem(folder: Path, spec: RunSpec, record: RunRecord) -> str | None:
    """Compare a run's table of start weights with its spec and record; None if they agree.

    Raises:
        OSError: If the run should have a table and has none, or the system refuses to read it.
        DamagedFileError: If the table is damaged or another run's.
    """
    wanted = record.environment.get("start")
    if spec.model.start is None or not isinstance(wanted, dict):
        return None
    rows = read_start(folder)
    taken = [row for row in rows if row["outcome"] == "taken"]
    found = {
        "sha256": spec.model.start.sha256,
        "tensors_taken": len(taken),
        "tensors": len(rows),
        "values_taken": _values(taken),
        "values": _values(rows),
    }
    for name, value in found.items():
        if wanted.get(name) != value:
            source = "the spec has" if name == "sha256" else f"{START} gives"
            return f"start.{name}: {wanted.get(name)!r} is recorded, {source} {value!r}"
    return None


def _values(rows: Iterable[dict[str, str]]) -> int:
    """Return the number of values of tensors; -1 if a shape is damaged."""
    try:
        return sum(prod(map(int, filter(None, row["shape"].split("x")))) for row in rows)
    except ValueError:
        return -1
