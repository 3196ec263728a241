"""Sweep loaded from its file: a base run, the searched space, and the run of every choice."""

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ema_lab.ablation.ablation import load_ablation
from ema_lab.ablation.combinations import PARTS, Combine
from ema_lab.ablation.grid import ABSENT, Cell, value_of
from ema_lab.errors import DefinitionError, EmaLabError, Problem
from ema_lab.registry.registry import unknown_name
from ema_lab.search.distribution import Parameter, in_grid
from ema_lab.specs.change import Change, dotted_change
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import Document, KeyPath
from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json
from ema_lab.specs.sweep import SweepMetric, SweepSpec, load_sweep_file
from ema_lab.specs.task import TaskDescription

BASE: KeyPath = ("parameters", "base", "value")
EXAMPLES = 64  # all models of a grid up to this size are built before the first trial
CANDIDATES = 256
CHECKED = 2000  # combinations of ends that are checked; of more combinations, a random sample
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """Search space around a base: `base` is the cell whose run varies, `parameters` vary by dotted key.

    `constants` are the file's other parameters. Every choice of values is trained with all `seeds`.
    """

    name: str
    document: Document
    spec: SweepSpec
    base: Cell
    constants: tuple[Change, ...]
    parameters: tuple[Parameter, ...]
    key_paths: Mapping[str, KeyPath]

    @property
    def path(self) -> Path:
        return self.document.path

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.spec.seeds

    @cached_property
    def _combine(self) -> Combine:
        tree = {key: value for key, value in self.base.spec.resolved().items() if key != "seed"}
        return Combine(self.document, tree, BASE)

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached values out of the pickle that workers get."""
        return {key: value for key, value in self.__dict__.items() if key != "_combine"}

    @property
    def task(self) -> TaskDescription:
        """Task of the base."""
        return self.base.spec.data.task

    @cached_property
    def goal(self) -> SweepMetric:
        """Metric that the search improves, with its direction.

        Raises:
            DefinitionError: If the base's task has no such metric, or the direction is wrong for the metric.
        """
        try:
            return self.spec.goal_for(self.task)
        except ValidationError as error:
            raise DefinitionError(self.document.problems(error, ("metric",))) from None

    def on(self, cell: Cell) -> "Sweep":
        """Return the same search around another base.

        Raises:
            DefinitionError: If a parameter does not apply to that base.
        """
        other = replace(self, base=cell)
        _check(other)
        return other

    def parts(self, values: Values) -> dict[str, Any]:
        """Return the checked parts of the run specs for a choice of values.

        Raises:
            DefinitionError: If the values do not fit together.
        """
        known = len(self._combine.problems)
        parts = self._combine.parts(self._changes(values))
        if parts is None:
            problems = self._combine.problems[known:]
            del self._combine.problems[known:]
            raise DefinitionError(problems)
        return parts

    def _changes(self, values: Values) -> list[Change]:
        """Return every parameter's change, in the order of the file."""
        changes = {".".join(change.keys): change for change in self.constants}
        changes |= {
            key: dotted_change(key, value, self._key_path(key, value)) for key, value in values.items()
        }
        return [changes[key] for key in self.key_paths if key in changes]

    def where(self, key: str, value: Any) -> str:
        """Return file and line of a parameter's value, searched or constant."""
        return self.document.where(self._key_path(key, value))

    def _key_path(self, key: str, value: Any) -> KeyPath:
        key_path = self.key_paths[key]
        listed = list(map(canonical_json, self._written.get(key, ())))
        text = canonical_json(value)
        number = listed.index(text) if text in listed else None
        return key_path if number is None else (*key_path, "values", number)

    @cached_property
    def _by_key(self) -> dict[str, Parameter]:
        return {parameter.key: parameter for parameter in self.parameters}

    @cached_property
    def _written(self) -> dict[str, tuple[Any, ...]]:
        """Listed values as written in the file, with repetitions, by dotted key."""
        return {
            key: parameter.values or ()
            for key, _, parameter in self.spec.searched()
            if not _is_constant(parameter)
        }

    def run(self, values: Values, seed: int) -> RunSpec:
        """Return the run of a choice of values and a seed."""
        return RunSpec.model_validate({**self.parts(values), "seed": seed})

    def runs(self, values: Values) -> list[RunSpec]:
        """Return the runs of a choice of values, one for each of the sweep's seeds."""
        parts = self.parts(values)
        return [RunSpec.model_validate({**parts, "seed": seed}) for seed in self.seeds]

    def remarks(self) -> list[str]:
        """Return a line for each key of the file with no effect, or with less than its name suggests."""
        offline = "has no effect offline, only with --chooser wandb"
        remarks = [
            *self.spec.ineffective_keys(),
            *((key_path, offline) for key_path in self.spec.server_only_keys()),
        ]
        return [f"{self.document.where(key)}: {'.'.join(map(str, key))} {effect}" for key, effect in remarks]

    def values_of(self, spec: RunSpec) -> dict[str, Any] | None:
        """Return the values with which this sweep trains a run, or None if the sweep never does."""
        if any(getattr(spec, part).canonical != text for part, text in self._fixed.items()):
            return None
        cell = replace(self.base, spec=spec, axes=(), own_axes=())
        candidates = [_candidates(parameter, value_of(cell, parameter.key)) for parameter in self.parameters]
        for values in itertools.islice(itertools.product(*candidates), CANDIDATES):
            choice = dict(zip(self._by_key, values, strict=True))
            try:
                if self.run(choice, spec.seed).run_id == spec.run_id:
                    return choice
            except DefinitionError:
                continue
        return None

    @cached_property
    def _fixed(self) -> dict[str, str]:
        """Canonical text of the parts that no parameter changes; other runs need no closer comparison."""
        searched = {parameter.key.partition(".")[0] for parameter in self.parameters}
        first = self.parts(next(_one_at_a_time(self)))
        return {part: first[part].canonical for part in PARTS if part not in searched}

    def examples(self) -> list[RunSpec]:
        """Return runs of the first seed that show whether the models can be built.

        Small grids give all runs; other spaces the first combination, then each other value or end on its
        own.
        """
        return [self.run(values, self.seeds[0]) for values in self.example_values()]

    def example_values(self) -> Iterator[dict[str, Any]]:
        """Yield the choices of values whose runs are the examples."""
        small = self.spec.method == "grid" and self.grid_size <= EXAMPLES
        return self.grid() if small else _one_at_a_time(self)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of a grid, the last parameter fastest."""
        for values in itertools.product(*(parameter.grid() for parameter in self.parameters)):
            yield dict(zip(self._by_key, values, strict=True))

    @property
    def grid_size(self) -> int:
        size = 1
        for parameter in self.parameters:
            size *= len(parameter.grid())
        return size

    @cached_property
    def epochs(self) -> int:
        """Number of epochs of the runs; the maximum where epochs are searched."""
        return max(self.run(values, self.seeds[0]).recipe.epochs for values in _one_at_a_time(self))

    def study_name(self, objectives: Sequence[object]) -> str:
        """Return the sweep's name and a fingerprint. Another space gives another study."""
        return f"{self.name}-{self.fingerprint(*objectives)}"

    def fingerprint(self, *more: object) -> str:
        """Return a hash of base, space, seeds and `more` values that tell two studies apart."""
        tree = {key: value for key, value in self.base.spec.resolved().items() if key != "seed"}
        space = {
            parameter.key: parameter.spec.model_dump(mode="json", exclude_unset=True)
            for parameter in self.parameters
        }
        constants = {".".join(change.keys): change.value for change in self.constants}
        text = canonical_json([tree, space, constants, list(self.seeds), *map(str, more)])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _candidates(parameter: Parameter, value: Any) -> Sequence[Any]:
    """Return the parameter values that a resolved spec's value may stand for; defaults are absent there."""
    if not parameter.is_listed:
        return () if value is ABSENT or parameter.stored_for(value) is None else (value,)
    if value is ABSENT:
        return parameter.choices
    text = canonical_json(value)
    return [choice for choice in parameter.choices if canonical_json(choice) == text] or parameter.choices


def common_items(choices: Sequence[Values]) -> dict[str, Any]:
    """Return the items that all choices have."""
    common = dict(choices[0])
    for values in choices[1:]:
        common = {key: v for key, v in common.items() if canonical_json(v) == canonical_json(values[key])}
    return common


def _with_values(problem: Problem, choices: Sequence[Values]) -> Problem:
    """Name the values that trigger a problem, unless its message names them already."""
    common = common_items(choices)
    if all(problem.message.startswith(f"{key}:") for key in common):
        return problem
    trigger = ", ".join(f"{key}={canonical_json(value)}" for key, value in common.items())
    return replace(problem, message=f"{problem.message} (with {trigger})")


def load_sweep(name: str | Path) -> Sweep:
    """Load a sweep by path or name and check all of it, including base and space. Needs no torch.

    Raises:
        UnknownNameError: If the file does not exist.
        DefinitionError: With every problem of the file and its line.
    """
    document, spec = load_sweep_file(find_definition("sweeps", str(name)))
    try:
        base = base_cell(spec.base)
    except EmaLabError as error:
        lines = str(error).splitlines()
        raise DefinitionError(
            [Problem(document.where(BASE), f"parameters.base: {x}") for x in lines]
        ) from None
    is_grid = spec.method == "grid"
    searched = [
        (key, key_path, in_grid(parameter) if is_grid else parameter)
        for key, key_path, written in spec.searched()
        for parameter in (written.without_repeats(in_grid=is_grid),)
    ]
    constants = [
        (key, (*key_path, "value"), parameter)
        for key, key_path, parameter in searched
        if _is_constant(parameter)
    ]
    sweep = Sweep(
        spec.name,
        document,
        spec,
        base,
        tuple(dotted_change(key, _only_value(parameter), key_path) for key, key_path, parameter in constants),
        tuple(Parameter(key, parameter) for key, _, parameter in searched if not _is_constant(parameter)),
        {key: key_path for key, key_path, _ in searched},
    )
    _check(sweep)
    return sweep


def base_cell(base: str) -> Cell:
    """Return the first cell of the table row `ABLATION/VARIANT`.

    Raises:
        EmaLabError: If the ablation or its row does not exist.
    """
    name, slash, row = base.partition(".yaml/")
    name, row = (f"{name}.yaml", row) if slash else (base.partition("/")[0], base.partition("/")[2])
    ablation = load_ablation(name)
    rows = ablation.rows()
    if row not in rows:
        raise EmaLabError(f"{unknown_name('variant', row, rows)} (of {ablation.name})")
    return rows[row][0]


def _is_constant(spec: ParameterSpec) -> bool:
    return spec.kind == "constant" or (spec.values is not None and len(spec.values) == 1)


def _only_value(spec: ParameterSpec) -> Any:
    return spec.value if spec.values is None else spec.values[0]


def _check(sweep: Sweep) -> None:
    """Check the base with every end of the space. Values in between are valid if both ends are."""
    _ = sweep.goal  # raises if the goal is wrong
    choices: dict[Problem, list[Values]] = {}
    where = sweep.document.where(BASE)
    for values in _samples(sweep):
        try:
            lines = unfit(sweep.spec.base, sweep.parts(values))
            problems = tuple(Problem(where, line) for line in lines)
        except DefinitionError as error:
            problems = error.problems
        for problem in dict.fromkeys(problems):
            choices.setdefault(problem, []).append(values)
    if choices:
        raise DefinitionError([_with_values(*item) for item in choices.items()])


def unfit(base: str, parts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why a search cannot compare such runs. A search chooses by validation images only."""
    if not parts["data"].val_images:
        yield f"{base} has no validation images, which a search needs: add data.val_images: {{value: N}}"
    if parts["recipe"].protocol == "best-test":
        advice = "a search must not choose by test data: add recipe.protocol: {value: last} or best-val"
        yield f"{base} reports its best test epoch; {advice}"


def _samples(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield combinations of the parameters' ends: all, or of too many, single changes and a random sample."""
    ends = [parameter.ends() for parameter in sweep.parameters]
    keys = [parameter.key for parameter in sweep.parameters]
    count = 1
    for values in ends:
        count *= len(values)
    if count <= CHECKED:
        for combination in itertools.product(*ends):
            yield dict(zip(keys, combination, strict=True))
        return
    yield from _one_at_a_time(sweep)
    draw = random.Random(0)
    for _ in range(CHECKED):
        yield {key: draw.choice(values) for key, values in zip(keys, ends, strict=True)}


def _one_at_a_time(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield the combination of all first ends, then each other end in its parameter's place."""
    ends = {parameter.key: parameter.ends() for parameter in sweep.parameters}
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        for value in values[1:]:
            yield {**first, key: value}
