"""Expansion of an ablation into cells, without file writes and without importing torch."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ema_lab.ablation.combinations import SET, Combine
from ema_lab.errors import DefinitionError, Problem
from ema_lab.specs.ablation import AblationSpec
from ema_lab.specs.change import Change, dotted_change
from ema_lab.specs.document import Document, KeyPath
from ema_lab.specs.named import NamedSpec
from ema_lab.specs.recipe import resolved
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import Spec

MAX_PROBLEMS = 20
ABSENT = object()
AxisValues = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One run of an ablation: variant, axis values and seed.

    Attributes:
        axes: Values on the axes that cross every variant.
        own_axes: Values on the variant's own axes.
        spec: Run spec of the cell.
    """

    variant: str
    axes: AxisValues
    own_axes: AxisValues
    seed: int
    spec: RunSpec

    @property
    def row(self) -> str:
        """Table row: variant and axis values, without the seed."""
        return self.row_without(None)

    def row_without(self, key: str | None) -> str:
        """Return the table row without its value on the axis `key`."""
        axes = [item for item in self.own_axes + self.axes if item[0] != key]
        values = [f"{name.rpartition('.')[2]}={format_value(value)}" for name, value in axes]
        return f"{self.variant} [{', '.join(values)}]" if values else self.variant

    def is_another_seed_of(self, cell: "Cell") -> bool:
        """Return whether two cells come from one combination of a variant and axis values: one row."""
        same_axes = self.axes is cell.axes and self.own_axes is cell.own_axes
        return same_axes and self.variant == cell.variant

    @property
    def run_id(self) -> str:
        """Run id of the cell's run spec."""
        return self.spec.run_id


@dataclass(frozen=True)
class SkippedCell:
    """Skipped cell with its reason."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class _Row:
    name: str
    changes: tuple[Change, ...]
    axes: tuple["_Axis", ...] = ()


@dataclass(frozen=True)
class _Axis:
    name: str
    values: tuple[tuple[Any, tuple[Change, ...]], ...]


def format_value(value: Any) -> str:
    """Format a value for a row name."""
    if isinstance(value, Mapping):
        options = [f"{key}={format_value(item)}" for key, item in value.items() if key != "name"]
        return " ".join([str(value.get("name", "")), *options]).strip()
    if isinstance(value, list):
        return "+".join(map(format_value, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


@dataclass(frozen=True)
class Expanded:
    """Cells of an ablation in file order, its skipped cells, and the default recipes by data set."""

    cells: tuple[Cell, ...]
    skipped: tuple[SkippedCell, ...]
    recipes: Mapping[str, str]


def expand(
    document: Document, spec: AblationSpec, changes: Mapping[str, Any] = MappingProxyType({})
) -> Expanded:
    """Expand an ablation into cells. `changes`: values by dotted key that change the base.

    Raises:
        DefinitionError: With all problems and their lines.
    """
    expansion = _Expansion(document, spec, changes)
    cells = list(expansion.cells())
    if expansion.problems:
        raise DefinitionError(list(dict.fromkeys(expansion.problems)))
    if spec.vary is not None:
        cells = _without_equal_rows(cells)
    return Expanded(*_apply_skips(document, spec, cells), expansion.combine.defaults)


class _Expansion:
    """Builder of the run spec of every combination of row, axis values and seed."""

    def __init__(self, document: Document, spec: AblationSpec, changes: Mapping[str, Any]) -> None:
        if "seed" in spec.base:
            location = document.where(("base", "seed"))
            raise DefinitionError([Problem(location, "base.seed: seeds are listed under 'seeds'")])
        self.spec = spec
        self.combine = Combine(document, spec.base, ("base",))
        self.changes = tuple(dotted_change(key, value, (SET, key)) for key, value in changes.items())

    @property
    def problems(self) -> list[Problem]:
        return self.combine.problems

    def cells(self) -> Iterator[Cell]:
        shared = _axes(self.spec.axes, ("axes",))
        for row in _rows(self.spec):
            for combination in itertools.product(*(axis.values for axis in (*row.axes, *shared))):
                changes = (
                    *self.changes,
                    *row.changes,
                    *itertools.chain.from_iterable(item[1] for item in combination),
                )
                parts = self.combine.parts(changes)
                if len(self.problems) >= MAX_PROBLEMS:
                    return
                if parts is None:
                    continue
                values = tuple(
                    (axis.name, item[0]) for axis, item in zip((*row.axes, *shared), combination, strict=True)
                )
                own, common = values[: len(row.axes)], values[len(row.axes) :]
                for seed in self.spec.seeds:  # parts fit, and seeds are checked: to validate again takes long
                    yield Cell(
                        row.name, common, own, seed, RunSpec.model_construct(**{**parts, "seed": seed})
                    )


def _axes(axes: Mapping[str, Any], key_path: KeyPath) -> tuple[_Axis, ...]:
    result = []
    for name, values in axes.items():
        axis_path = (*key_path, name)
        if isinstance(values, Mapping):
            points = [
                (label, tuple(dotted_change(k, v, (*axis_path, label, k)) for k, v in changes.items()))
                for label, changes in values.items()
            ]
        else:
            points = [
                (value, (dotted_change(name, value, (*axis_path, i)),)) for i, value in enumerate(values)
            ]
        result.append(_Axis(name, tuple(points)))
    return tuple(result)


def _rows(spec: AblationSpec) -> list[_Row]:
    if spec.variants is not None:
        return [_variant_row(name, changes) for name, changes in spec.variants.items()]
    if spec.without is not None:
        rows = [_Row("full", ())]
        for label, changes in spec.without.items():
            key_path = ("without", label)
            rows.append(_Row(label, tuple(dotted_change(k, v, (*key_path, k)) for k, v in changes.items())))
        return rows
    rows = [_Row("base", ())]
    short = [key.rpartition(".")[2] for key in spec.vary or {}]
    for key, values in (spec.vary or {}).items():
        name = key.rpartition(".")[2]
        name = name if short.count(name) == 1 else key
        rows += [
            _Row(f"{name}={format_value(value)}", (dotted_change(key, value, ("vary", key, i)),))
            for i, value in enumerate(values)
        ]
    return rows


def _variant_row(name: str, changes: Mapping[str, Any]) -> _Row:
    key_path: KeyPath = ("variants", name)
    own = _axes(changes.get("axes", {}), (*key_path, "axes"))
    return _Row(
        name, tuple(dotted_change(k, v, (*key_path, k)) for k, v in changes.items() if k != "axes"), own
    )


def _without_equal_rows(cells: list[Cell]) -> list[Cell]:
    """Drop the rows of `vary` whose runs equal the base row's."""
    base = {cell.run_id for cell in cells if cell.variant == "base"}
    return [cell for cell in cells if cell.variant == "base" or cell.run_id not in base]


def value_of(cell: Cell, key: str) -> Any:
    """Return a cell's variant, row, seed, axis value or spec value, or `ABSENT` for an unknown key."""
    value: Any = {"variant": cell.variant, "row": cell.row, "seed": cell.seed}.get(key)
    if value is not None:
        return value
    values = dict(cell.own_axes + cell.axes)
    return values[key] if key in values else _lookup(cell.spec, key)


def matches(cell: Cell, key: str, wanted: Any) -> bool:
    """Return whether a cell's value of a key equals `wanted`, or one of its items if `wanted` is a list.

    A `variant` is named by its name or, for one of its rows alone, as tables print the row.
    """
    value = value_of(cell, key)
    allowed = wanted if isinstance(wanted, list) else [wanted]
    if key == "variant" and cell.row in allowed:
        return True
    name = value.get("name") if isinstance(value, Mapping) else None
    return any(_equal(value, item) or item == name is not None for item in allowed)


def _equal(value: Any, item: Any) -> bool:
    """Return whether two values give the same run id: 1 equals 1.0, but true does not equal 1."""
    return isinstance(value, bool) is isinstance(item, bool) and bool(value == item)


def _lookup(spec: RunSpec, key: str) -> Any:
    """Return the explicit or default value of a dotted key, or `ABSENT` for an unknown key."""
    value: Any = spec
    for part in key.split("."):
        if isinstance(value, Spec) and part in type(value).model_fields and part != "options":
            value = getattr(value, part)
        else:
            below = getattr(value, "options", value)
            value = below.get(part, ABSENT) if isinstance(below, Mapping) else ABSENT
    if isinstance(value, NamedSpec):
        return value.resolved()
    return resolved(value) if isinstance(value, Spec) else value


def _apply_skips(
    document: Document, spec: AblationSpec, cells: list[Cell]
) -> tuple[tuple[Cell, ...], tuple[SkippedCell, ...]]:
    problems: list[Problem] = []
    reasons: dict[int, str] = {}
    for number, skip in enumerate(spec.skip):
        matched = [cell for cell in cells if all(matches(cell, k, v) for k, v in skip.when.items())]
        if not matched:
            location = document.where(("skip", number))
            problems.append(Problem(location, f"skip.{number}.when: matches no cell, got {dict(skip.when)}"))
        reasons |= {id(cell): skip.reason for cell in matched}
    if problems:
        raise DefinitionError(problems)
    kept = [cell for cell in cells if id(cell) not in reasons]
    if not kept:
        raise DefinitionError([Problem(document.where(("skip",)), "skip: every cell is skipped")])
    skipped = [SkippedCell(cell, reasons[id(cell)]) for cell in cells if id(cell) in reasons]
    return tuple(kept), tuple(skipped)
