"""Ablations in the definition files as they are now, and the names that they give to runs."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.errors import EmaLabError
from ema_lab.measured.names import OTHER, RunName
from ema_lab.specs.definition import definitions
from ema_lab.specs.strict import canonical_json

KINDS = ("ablations", "ablations/recipes", "reports", "sweeps")
FileStamps = tuple[tuple[str, int, int], ...]


def file_stamps(paths: Iterable[Path]) -> FileStamps:
    """Return path, time and size of each file that exists: they change when a file does."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def definition_stamps() -> FileStamps:
    """Return the stamps of all definition files, local and bundled."""
    return file_stamps(path for kind in KINDS for path in definitions(kind).values())


def is_local(path: Path) -> bool:
    """Whether a definition file lies below the current folder, not among the bundled ones."""
    return not path.is_absolute()


@dataclass(frozen=True)
class Known:
    """Ablations of the definition files.

    Attributes:
        ablations: Ablations by the name of their file, the local ones first.
        problems: First line of the error of each file that cannot be read, by its name.
        names: Cells of each run, by run id.
        rows: Cell of the first seed of each table row, by the work of its runs.
        models: Cell of the first seed of each table row, by its model and the name of its data.
    """

    ablations: Mapping[str, Ablation]
    problems: Mapping[str, str]
    names: Mapping[str, list[RunName]]
    rows: Mapping[str, RunName]
    models: Mapping[str, RunName] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Known":
        """Read all ablations. None of their modules is imported."""
        ablations: dict[str, Ablation] = {}
        problems: dict[str, str] = {}
        files = definitions("ablations")
        for name, path in sorted(files.items(), key=lambda item: (not is_local(item[1]), item[0])):
            try:
                ablations[name] = load_ablation(path)
            except EmaLabError as error:
                problems[name] = (str(error).splitlines() or [""])[0]
        names: dict[str, list[RunName]] = {}
        rows: dict[str, RunName] = {}
        models: dict[str, RunName] = {}
        for name, ablation in ablations.items():
            for cell in ablation.cells:
                names.setdefault(cell.run_id, []).append(RunName(name, cell.row, cell.seed))
            for row, (first, *_) in ablation.rows().items():
                spec = first.spec.resolved()
                rows.setdefault(work_of(spec), RunName(name, row, first.seed))
                models.setdefault(_model_of(spec), RunName(name, row, first.seed))
        return cls(ablations, problems, names, rows, models)

    def name_of_seed(self, spec: Mapping[str, Any]) -> RunName | None:
        """Return the name of a run whose seed no file lists, such as one of `run --until-decided`.

        Args:
            spec: The run's spec as plain data.
        """
        row = self.rows.get(work_of(spec))
        return RunName(row.ablation, row.row, int(spec["seed"])) if row else None

    def name_of_settings(self, spec: Mapping[str, Any]) -> RunName | None:
        """Return the name of a run with other settings than its file's, such as one of `run --set`.

        Args:
            spec: The run's spec as plain data.
        """
        row = self.models.get(_model_of(spec))
        if row is None or not isinstance(spec.get("seed"), int):
            return None
        return RunName(row.ablation, f"{row.row}{OTHER}", spec["seed"])


def work_of(spec: Mapping[str, Any]) -> str:
    """Return a text that is equal for the specs of runs that differ only in their seed."""
    return canonical_json({key: value for key, value in spec.items() if key != "seed"})


def _model_of(spec: Mapping[str, Any]) -> str:
    """Return a text that is equal for the specs of one model on one data set."""
    return canonical_json({"model": spec.get("model"), "data": (spec.get("data") or {}).get("name")})
