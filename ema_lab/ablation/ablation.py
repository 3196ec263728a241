"""An ablation, loaded from its file and expanded."""

import itertools
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ema_lab.ablation.grid import AxisValues, Cell, SkippedCell, expand, matches
from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.ablation import AblationSpec
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import Document, read_document
from ema_lab.specs.report import require_file_name
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import TaskDescription, common_task


@dataclass(frozen=True)
class Ablation:
    """A named set of cells and the row that the others are compared with."""

    name: str
    description: str
    path: Path
    baseline: str | None
    cells: tuple[Cell, ...]
    skipped: tuple[SkippedCell, ...] = ()

    def runs(self) -> list[RunSpec]:
        """Return the distinct run specs, in the order of the cells; cells may share a run."""
        return list({cell.run_id: cell.spec for cell in self.cells}.values())

    @property
    def task(self) -> TaskDescription:
        """The task of all cells.

        Raises:
            SpecError: If the cells have several tasks.
        """
        return common_task((cell.spec for cell in self.cells), self.name)

    def rows(self) -> dict[str, list[Cell]]:
        """Return the cells by table row, in the order of the file."""
        rows: dict[str, list[Cell]] = {}
        for cell in self.cells:
            rows.setdefault(cell.row, []).append(cell)
        return rows

    def baseline_of(self, cell: Cell) -> Cell | None:
        """Return the baseline variant's cell with the same values on all axes and the same seed."""
        return self._baselines.get((_key(cell.axes), cell.seed))

    @cached_property
    def _baselines(self) -> dict[tuple[str, int], Cell]:
        return {(_key(cell.axes), cell.seed): cell for cell in self.cells if cell.variant == self.baseline}

    def only(self, conditions: Mapping[str, Sequence[Any]]) -> "Ablation":
        """Return the cells that meet every condition: a key and its allowed values.

        Raises:
            SpecError: If none does.
        """
        found = self.where(lambda cell: all(matches(cell, k, list(v)) for k, v in conditions.items()))
        if not found.cells:
            asked = ", ".join(f"{key}={' or '.join(map(str, v))}" for key, v in conditions.items())
            there = [f"variants: {_listed(cell.variant for cell in self.cells)}"]
            if "seed" in conditions:
                there.append(f"seeds: {_listed(cell.seed for cell in self.cells)}")
            raise SpecError(f"no cell of {self.name} has {asked}; {'; '.join(there)}")
        return found

    def where(self, wanted: Callable[[Cell], bool]) -> "Ablation":
        """Return the cells that are wanted, of those that the file leaves out, too."""
        cells = tuple(cell for cell in self.cells if wanted(cell))
        return replace(self, cells=cells, skipped=tuple(one for one in self.skipped if wanted(one.cell)))

    def first_seeds(self, count: int) -> "Ablation":
        """Return the cells of the first `count` seeds of the file."""
        seeds = list(dict.fromkeys(cell.seed for cell in self.cells))
        if not 1 <= count <= len(seeds):
            raise SpecError(f"{self.name} has {len(seeds)} seeds, got --seeds {count}")
        return self.where(lambda cell: cell.seed in seeds[:count])

    def with_seeds(self, counts: Mapping[str, int]) -> "Ablation":
        """Return the cells with further seeds: each named row has that many, which count on from the file's.

        A row's further runs are those that the file would give with longer `seeds`.
        """
        seeds = {cell.seed for cell in self.cells}
        cells = list(self.cells)
        for row, members in self.rows().items():
            more = range(max(0, counts.get(row, 0) - len(seeds)))
            cells += [_with_seed(members[0], max(seeds) + 1 + number) for number in more]
        return replace(self, cells=tuple(cells))

    def with_found_seeds(self, run_ids: Container[str]) -> "Ablation":
        """Return the cells with the further seeds of each row whose runs are there, without a gap."""
        first = max(cell.seed for cell in self.cells) + 1
        cells = list(self.cells)
        for members in self.rows().values():
            more = (_with_seed(members[0], seed) for seed in itertools.count(first))
            cells += itertools.takewhile(lambda cell: cell.run_id in run_ids, more)
        return replace(self, cells=tuple(cells))


def _with_seed(cell: Cell, seed: int) -> Cell:
    parts = {key: getattr(cell.spec, key) for key in RunSpec.model_fields}
    return replace(cell, seed=seed, spec=RunSpec.model_validate({**parts, "seed": seed}))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _key(axes: AxisValues) -> str:
    return repr(axes)


def load_ablation(name: str | Path) -> Ablation:
    """Load an ablation by path or name, check all of it and expand it; torch is not needed.

    Raises:
        UnknownNameError: If there is no such file.
        DefinitionError: With every problem of the file and its line.
    """
    document = read_document(find_definition("ablations", str(name)))
    try:
        spec = AblationSpec.model_validate(document.value)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        problems = [*document.problems(error), *_content_problems(document, wrong)]
        raise DefinitionError(list(dict.fromkeys(problems))) from None
    require_file_name(document, spec.name)
    cells, skipped = expand(document, spec)
    return Ablation(
        spec.name, spec.description, document.path, spec.baseline_name, tuple(cells), tuple(skipped)
    )


def _content_problems(document: Document, wrong: Set[str]) -> list[Problem]:
    """Return the problems inside the parts of a file whose form is right, so that all come at once."""
    kept = {key: value for key, value in document.value.items() if key not in wrong}
    kept = {"name": document.path.stem, "seeds": [0], **kept}
    if not kept.keys() & {"variants", "vary", "without"}:
        kept["variants"] = {"base": {}}
    try:
        expand(document, AblationSpec.model_validate(kept))
    except DefinitionError as error:
        return list(error.problems)
    except ValidationError:
        pass  # its form cannot be read: the problems of the form are all there is to say
    return []
