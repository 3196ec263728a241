"""Names of runs: the cells of all ablations that share a run, found from the current folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ema_lab.ablation.ablation import load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import EmaLabError
from ema_lab.specs.definition import definitions
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json

OTHER = " (other settings)"  # end of the row's name of a run of `run --set`


@dataclass(frozen=True)
class RunName:
    """Cell of an ablation: its ablation, its table row and its seed."""

    ablation: str
    row: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed} of {self.ablation}"


@dataclass(frozen=True)
class RunNames:
    """Names of runs, the local ablations' first.

    Attributes:
        cells: Cells by run id.
        models: First row of each model on each data set, by both as text.
    """

    cells: Mapping[str, list[RunName]]
    models: Mapping[str, RunName]

    @classmethod
    def read(cls) -> "RunNames":
        """Read all ablations. One that cannot be read is skipped; none of their modules is imported."""
        cells: dict[str, list[RunName]] = {}
        models: dict[str, RunName] = {}
        rows: set[tuple[str, str]] = set()
        for cell, name in _names():
            if name not in cells.setdefault(cell.run_id, []):
                cells[cell.run_id].append(name)
            if (name.ablation, name.row) not in rows:  # one cell of each row is enough
                rows.add((name.ablation, name.row))
                models.setdefault(_model_of(cell.spec), name)
        return cls(cells, models)

    def of(self, run_id: str, spec: RunSpec | None = None) -> list[RunName]:
        """Return a run's names.

        Args:
            run_id: The run's id.
            spec: Its spec, by which a run with other settings or seeds than any file's, such as one of
                `run --set`, is called after the first row that has its model and its data set.
        """
        if spec is None or run_id in self.cells:
            return self.cells.get(run_id, [])
        row = self.models.get(_model_of(spec))
        return [RunName(row.ablation, f"{row.row}{OTHER}", spec.seed)] if row else []


def _model_of(spec: RunSpec) -> str:
    return canonical_json({"model": spec.resolved()["model"], "data": spec.data.name})


def _names() -> Iterator[tuple[Cell, RunName]]:
    files = definitions("ablations")
    for path in sorted(files.values(), key=lambda path: (path.is_absolute(), path)):
        try:
            ablation = load_ablation(path)
        except EmaLabError:
            continue
        for cell in ablation.cells:
            yield cell, RunName(ablation.name, cell.row, cell.seed)


def flat_names(names: list[RunName]) -> dict[str, str | None]:
    """Return ablations and rows as text, each joined by a comma; None for a run of no ablation."""
    return {
        "ablation": ", ".join(dict.fromkeys(name.ablation for name in names)) or None,
        "row": ", ".join(dict.fromkeys(name.row for name in names)) or None,
    }
