"""Ablations: loaded from their files, expanded into cells, filtered and extended."""

import itertools
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ema_lab.ablation.grid import AxisValues, Cell, SkippedCell, expand, matches
from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.ablation import AblationSpec, Form
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import Document, read_document, require_file_name
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import TaskDescription, common_task
from ema_lab.wording import number_of


@dataclass(frozen=True)
class Ablation:
    """Named set of cells, with the baseline row that all other rows are compared with.

    Attributes:
        path: File of the ablation.
        baseline: Name of the baseline variant, or None.
        cells: Cells to train, in file order.
        skipped: Cells that the file skips.
        whole: Variant of each row before the cells were reduced; empty if none was left out.
        changes: Values by dotted key that changed the file's base, as by `--set`.
        recipes: Default recipes, by data set, of cells whose file names no recipe.
        notes: Sentences of the file that every table repeats.
        form: Key of the file that defines the rows.
    """

    name: str
    description: str
    path: Path
    baseline: str | None
    cells: tuple[Cell, ...]
    skipped: tuple[SkippedCell, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    form: Form = "variants"

    def runs(self) -> list[RunSpec]:
        """Return the distinct run specs in cell order. Several cells may share one run."""
        return list({cell.run_id: cell.spec for cell in self.cells}.values())

    @property
    def task(self) -> TaskDescription:
        """Task of all cells.

        Raises:
            SpecError: If the cells have several tasks.
        """
        return common_task((cell.spec for cell in self.cells), self.name)

    def rows(self) -> dict[str, list[Cell]]:
        """Return the cells by table row, in file order."""
        rows: dict[str, list[Cell]] = {}
        members, last = list[Cell](), None
        for cell in self.cells:
            if last is None or not cell.is_another_seed_of(last):
                members = rows.setdefault(cell.row, [])
            members.append(cell)
            last = cell
        return rows

    @property
    def num_compared(self) -> int:
        """Number of rows that the whole ablation compares with its baseline, also after `only`."""
        return sum(variant != self.baseline for variant in self._variant_by_row().values())

    @property
    def has_several_comparisons(self) -> bool:
        """Whether several rows are compared: with the baseline or, without one, in pairs."""
        return self.num_compared > (1 if self.baseline else 2)

    def _variant_by_row(self) -> Mapping[str, str]:
        return self.whole or {row: cells[0].variant for row, cells in self.rows().items()}

    def baseline_of(self, cell: Cell) -> Cell | None:
        """Return the baseline cell with the same axis values and seed, or None."""
        return self._baselines.get((_key(cell.axes), cell.seed))

    @cached_property
    def _baselines(self) -> dict[tuple[str, int], Cell]:
        return {(_key(cell.axes), cell.seed): cell for cell in self.cells if cell.variant == self.baseline}

    def only(self, conditions: Mapping[str, Sequence[Any]]) -> "Ablation":
        """Return the ablation reduced to the cells that match every condition.

        Args:
            conditions: Allowed values by key (variant, row, seed, axis or dotted key).

        Raises:
            SpecError: If no cell matches.
        """
        selected = self.where(lambda cell: all(matches(cell, k, list(v)) for k, v in conditions.items()))
        if not selected.cells:
            conditions_text = ", ".join(f"{key}={' or '.join(map(str, v))}" for key, v in conditions.items())
            available = [f"variants: {_join_distinct(cell.variant for cell in self.cells)}"]
            if "seed" in conditions:
                available.append(f"seeds: {_join_distinct(cell.seed for cell in self.cells)}")
            raise SpecError(f"no cell of {self.name} has {conditions_text}; {'; '.join(available)}")
        return selected

    def where(self, predicate: Callable[[Cell], bool]) -> "Ablation":
        """Return the ablation reduced to the cells, skipped ones included, that satisfy `predicate`."""
        cells = tuple(cell for cell in self.cells if predicate(cell))
        skipped = tuple(skipped for skipped in self.skipped if predicate(skipped.cell))
        return replace(self, cells=cells, skipped=skipped, whole=self._variant_by_row())

    def first_seeds(self, count: int) -> "Ablation":
        """Return the ablation reduced to the first `count` seeds of the file.

        Raises:
            SpecError: If the file has fewer than `count` seeds, or `count` is below 1.
        """
        seeds = list(dict.fromkeys(cell.seed for cell in self.cells))
        if not 1 <= count <= len(seeds):
            raise SpecError(f"{self.name} has {number_of(len(seeds), 'seed')}, got --seeds {count}")
        return self.where(lambda cell: cell.seed in seeds[:count])

    def these_seeds(self, chosen: Sequence[int]) -> "Ablation":
        """Return the ablation reduced to some seeds.

        Raises:
            SpecError: If a seed is not one of the file's.
        """
        seeds = list(dict.fromkeys(cell.seed for cell in self.cells))
        for seed in chosen:
            if seed not in seeds:
                raise SpecError(f"{self.name} has the seeds {', '.join(map(str, seeds))}, got {seed}")
        return self.where(lambda cell: cell.seed in chosen)

    @property
    def num_seeds(self) -> int:
        """Number of different seeds of the cells."""
        return len({cell.seed for cell in self.cells})

    def with_seeds(self, counts: Mapping[str, int]) -> "Ablation":
        """Return the ablation with extra seeds, so that each named row has the given number of seeds.

        Extra seeds continue from the largest seed of the file, as if the file listed them.

        Args:
            counts: Number of seeds by row. Rows that are not named keep their seeds.
        """
        seeds = {cell.seed for cell in self.cells}
        cells = list(self.cells)
        for row, members in self.rows().items():
            more = range(max(0, counts.get(row, 0) - len(seeds)))
            cells += [_with_seed(members[0], max(seeds) + 1 + number) for number in more]
        return replace(self, cells=tuple(cells))

    def with_stored_seeds(self, run_ids: Container[str], most: int | None = None) -> "Ablation":
        """Return the ablation with the extra seeds of each row whose runs exist, up to the first gap.

        Args:
            run_ids: Run ids in the store.
            most: Number of seeds of a row at most, those of the file included. None sets no limit.
        """
        first = max(cell.seed for cell in self.cells) + 1
        limit = None if most is None else max(0, most - self.num_seeds)
        cells = list(self.cells)
        for members in self.rows().values():
            more = (_with_seed(members[0], seed) for seed in itertools.count(first))
            cells += itertools.islice(itertools.takewhile(lambda cell: cell.run_id in run_ids, more), limit)
        return replace(self, cells=tuple(cells))


def _with_seed(cell: Cell, seed: int) -> Cell:
    parts = {key: getattr(cell.spec, key) for key in RunSpec.model_fields}
    return replace(cell, seed=seed, spec=RunSpec.model_validate({**parts, "seed": seed}))


def _join_distinct(values: Iterable[object]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _key(axes: AxisValues) -> str:
    return repr(axes)


def load_ablation(name: str | Path, changes: Mapping[str, Any] | None = None) -> Ablation:
    """Load, check and expand an ablation, given by path or name, without importing torch.

    Args:
        name: A path, or the name of a definition.
        changes: Values by dotted key that change the file's base, such as {"recipe.epochs": 1}.

    Raises:
        UnknownNameError: If the file does not exist.
        DefinitionError: With every problem of the file and its line.

    Example:
        >>> ablation = ema_lab.load_ablation("quickstart", {"recipe.epochs": 1})
        >>> len(ablation.cells), ablation.cells[0].spec.recipe.epochs
        (21, 1)
    """
    document = read_document(find_definition("ablations", str(name)))
    try:
        spec = AblationSpec.model_validate(document.value)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        problems = [*document.problems(error), *_content_problems(document, wrong)]
        raise DefinitionError(list(dict.fromkeys(problems))) from None
    require_file_name(document, spec.name)
    expanded = expand(document, spec, changes or {})
    return Ablation(
        name=spec.name,
        description=spec.description,
        path=document.path,
        baseline=spec.baseline_name,
        cells=expanded.cells,
        skipped=expanded.skipped,
        notes=spec.notes,
        changes=dict(changes or {}),
        recipes=expanded.recipes,
        form=spec.form,
    )


def _content_problems(document: Document, wrong: Set[str]) -> list[Problem]:
    """Return the problems in the valid parts of a file, so that one error lists all problems."""
    kept = {key: value for key, value in document.value.items() if key not in wrong}
    kept = {"name": document.path.stem, "seeds": [0], **kept}
    if not kept.keys() & {"variants", "vary", "without"}:
        kept["variants"] = {"base": {}}
    try:
        expand(document, AblationSpec.model_validate(kept))
    except DefinitionError as error:
        return list(error.problems)
    except ValidationError:
        pass  # the rest does not match the schema either, and those problems are already reported
    return []
