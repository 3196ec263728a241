"""Schema of a sweep file: the sweep configuration of Weights & Biases (W&B), checked strictly.

The keys and distributions are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.document import Document, KeyPath, read_document, require_file_name
from ema_lab.specs.early_stopping import ControllerSpec, HyperbandSpec
from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.strict import Finite, PositiveInt, Seed, Spec, canonical_json, invalid, problem
from ema_lab.specs.task import METRIC_PATTERN, TaskDescription

VALIDATION = "val_"
COMMAND = ("ema-lab", "trial", "${args_json}")
METHODS = ("grid", "random", "bayes")
OWN_KEYS = ("base", "seeds")
GROUPS = ("model", "data", "recipe")
MAX_STEPS = 100_000
GRID_DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "q_uniform")


def _validation_metric(name: str) -> str:
    """Require a validation metric. `SweepMetric.for_task` checks that the base's task has the metric."""
    if not name.startswith(VALIDATION):
        raise problem(f"a search must not use test data: write {VALIDATION}{name.removeprefix('test_')}")
    return name


def _method(name: object) -> object:
    if name == "custom":
        raise problem("custom needs a program of your own at W&B; ema-lab has grid, random, bayes")
    return name


class SweepMetric(Spec):
    """Objective of a search. The name defaults to the primary metric of the base's task.

    `target`: value at which the search stops.

    Attributes:
        name: Validation metric, such as val_top1; that of the task's primary metric by default.
        goal: `maximize` or `minimize`, whichever improves the metric.
        target: Value at which the search stops.
        impute: Value that W&B's server takes for a failed trial; unused offline.
        impute_while_running: Value that W&B's server takes for a running trial; unused offline.
    """

    name: Annotated[
        str,
        AfterValidator(_validation_metric),
        WithJsonSchema({"type": "string", "pattern": METRIC_PATTERN.replace("^", f"^{VALIDATION}")}),
    ] = ""
    goal: Literal["minimize", "maximize"] = "minimize"
    target: Finite | None = None
    impute: Literal["latest", "best", "worst"] | None = None
    impute_while_running: Literal["latest", "best", "worst", "false"] | None = None

    def for_task(self, task: TaskDescription) -> "SweepMetric":
        """Return the metric with its default name filled in.

        Raises:
            ValidationError: If the task has no such metric, or the goal contradicts the metric's direction.
        """
        known = [f"{VALIDATION}{metric}" for metric in task.metrics]
        name = self.name or f"{VALIDATION}{task.primary}"
        if name not in known:
            raise invalid("metric", f"must be one of {', '.join(known)}, got {name!r}", "name")
        right = "maximize" if task.metrics[name.removeprefix(VALIDATION)].sign > 0 else "minimize"
        if self.goal != right:
            hint = "" if "goal" in self.model_fields_set else " (W&B minimizes by default)"
            raise invalid("metric", f"must be {right} for {name}, got {self.goal}{hint}", "goal")
        return self.model_copy(update={"name": name})


class SweepSpec(Spec):
    """Search over hyper-parameters. `parameters` are dotted keys of the run spec, `base` and `seeds`.

    `base: {value: ABLATION/VARIANT}` is the run spec that the other parameters change. Every trial trains
    all `seeds: {value: [0, 1]}`, and the trial's value is their mean.

    Attributes:
        apiVersion: Version of W&B's format; unused.
        kind: The constant `sweep`; unused.
        name: Name of the sweep: that of its file.
        description: Purpose of the search, in one sentence.
        project: Project at W&B.
        entity: User or team at W&B.
        program: Program at W&B; unused.
        method: `grid` tries every value, `random` draws, `bayes` learns from earlier trials.
        metric: Objective of the search.
        controller: W&B's controller; unused offline.
        parameters: Parameters by dotted key of the run spec, and `base` and `seeds`.
        early_terminate: Rule that stops hopeless trials.
        run_cap: Number of trials.
        command: The constant [ema-lab, trial, "${args_json}"].
    """

    apiVersion: str | None = None  # noqa: N815 - W&B's spelling
    kind: Literal["sweep"] | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    project: str | None = None
    entity: str | None = None
    program: str | None = None
    method: Annotated[
        Literal["grid", "random", "bayes"], BeforeValidator(_method), WithJsonSchema({"enum": [*METHODS]})
    ]
    metric: SweepMetric | None = None
    controller: ControllerSpec | None = None
    parameters: Annotated[Mapping[str, ParameterSpec], Field(min_length=1)]
    early_terminate: HyperbandSpec | None = None
    run_cap: PositiveInt | None = None
    command: Annotated[tuple[str, ...], Strict(False)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.metric is None and (self.method == "bayes" or self.early_terminate):
            user = "the method bayes" if self.method == "bayes" else "early_terminate"
            raise invalid("sweep", f"is needed by {user}", "metric")
        if not _in_order(COMMAND, self.command):
            raise invalid("sweep", f"must be {list(COMMAND)}, got {list(self.command)}", "command")
        for key in OWN_KEYS:
            if key not in self.parameters:
                raise invalid("sweep", f"needs {key}: {{value: ...}}", "parameters")
            if self.parameters[key].kind != "constant" or self.parameters[key].parameters is not None:
                raise invalid("sweep", "must be {value: ...}", "parameters", key)
        if not isinstance(base := self.parameters["base"].value, str) or "/" not in base:
            raise invalid("sweep", f"must be ABLATION/VARIANT, got {base!r}", "parameters", "base", "value")
        if wrong := seeds_problem(self.parameters["seeds"].value):
            raise invalid("sweep", wrong, "parameters", "seeds", "value")
        if not any(parameter.kind != "constant" for _, _, parameter in self.searched()):
            raise invalid("sweep", "must have at least one parameter with more than one value", "parameters")
        self._check_keys()
        for _, key_path, parameter in self.searched():
            if self.method == "grid" and parameter.kind not in GRID_DISTRIBUTIONS:
                rule = f"a grid needs {', '.join(GRID_DISTRIBUTIONS)}; this is {parameter.kind}"
                raise invalid("sweep", rule, *key_path)
            if self.method == "grid" and parameter.num_steps > MAX_STEPS:
                rule = f"a grid tries each value of a range: reduce the range to at most {MAX_STEPS:,} values"
                raise invalid("sweep", rule, *key_path)
        return self

    def _check_keys(self) -> None:
        """Reject keys that are set twice: by a flat key and a group, or by a mapping of another key."""
        sources: dict[str, str] = {}
        for key, key_path, parameter in self.searched():
            values = parameter.values or (parameter.value,)
            for below in dict.fromkeys(item for value in values for item, _ in _flattened(key, value)):
                if below in sources:
                    both = f"by {sources[below]} and by {key}: remove one of them"
                    raise invalid("sweep", f"{below} is set twice, {both}", *key_path)
                sources[below] = key

    def searched(self) -> Iterator[tuple[str, KeyPath, ParameterSpec]]:
        """Yield (dotted key, key path in the file, parameter) of all parameters except `base` and `seeds`."""
        for key, parameter in self.parameters.items():
            if key not in OWN_KEYS:
                yield from _leaves(key, ("parameters", key), parameter)

    def server_only_keys(self) -> Iterator[KeyPath]:
        """Yield the key paths that have an effect on W&B's server only."""
        for key in ("impute", "impute_while_running"):
            if self.metric is not None and getattr(self.metric, key) not in {None, "false"}:
                yield "metric", key
        if self.early_terminate is not None and self.early_terminate.strict:
            yield "early_terminate", "strict"
        if self.controller is not None:
            yield ("controller",)

    def ineffective_keys(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield the key paths with less effect than expected (at W&B too), with an explanation."""
        if self.early_terminate is not None:
            for key, why in self.early_terminate.overridden():
                yield ("early_terminate", key), f"changes nothing: {why}"
        for _, key_path, parameter in self.searched():
            if parameter.repeated:
                how = "a grid tries each once" if self.method == "grid" else "each is drawn more often"
                named = ", ".join(map(canonical_json, parameter.repeated))
                yield (*key_path, "values"), f"repeats {named}: {how}, as at W&B"

    @property
    def base(self) -> str:
        """Base of the search, as "ABLATION/VARIANT"."""
        return str(self.parameters["base"].value)

    @property
    def seeds(self) -> tuple[Seed, ...]:
        """Seeds of every trial."""
        return tuple(self.parameters["seeds"].value)

    def goal_for(self, task: TaskDescription) -> SweepMetric:
        """Return the objective of a search over runs of this task (raises as `SweepMetric.for_task`)."""
        if self.metric is not None:
            return self.metric.for_task(task)
        goal = "maximize" if task.metrics[task.primary].sign > 0 else "minimize"
        return SweepMetric(name=f"{VALIDATION}{task.primary}", goal=goal)


def seeds_problem(seeds: object) -> str | None:
    """Return the rule that the value of `seeds` breaks, or None for valid seeds."""
    if not isinstance(seeds, list) or not seeds or len(set(map(repr, seeds))) < len(seeds):
        return f"must be a list of different seeds, got {seeds!r}"
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**63:
            return f"must be whole numbers from 0, got {seed!r}"
    return None


def _in_order(required: tuple[str, ...], command: tuple[str, ...]) -> bool:
    """Return whether a command has the required arguments in order, possibly with options in between."""
    rest = iter(command)
    return all(word in rest for word in required)


def _leaves(
    key: str, key_path: KeyPath, parameter: ParameterSpec
) -> Iterator[tuple[str, KeyPath, ParameterSpec]]:
    """Yield the parameters of a group. Mappings as values are errors, because JSON is flattened later."""
    inside = "parameters" in key_path[1:]
    if parameter.parameters is None:
        values = parameter.values or (parameter.value,)
        if (inside or key in GROUPS) and any(isinstance(value, Mapping) for value in values):
            raise invalid("sweep", "a mapping as a value needs a flat dotted key, such as a.b.c", *key_path)
        yield key, key_path, parameter
        return
    if not inside and key not in GROUPS:
        rule = f"only {', '.join(GROUPS)} can be groups of parameters; inside them, write dotted keys"
        raise invalid("sweep", rule, *key_path)
    for name, below in parameter.parameters.items():
        yield from _leaves(f"{key}.{name}", (*key_path, "parameters", name), below)


def flat_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a trial's parameters, as passed on by W&B, to dotted keys.

    Raises:
        SpecError: If a group and a dotted key both set a value.
    """
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        for dotted_key, item in _flattened(key, value) if key in GROUPS else [(key, value)]:
            if dotted_key in flat:
                raise SpecError(f"{dotted_key}: is set twice")
            flat[dotted_key] = item
    return flat


def _flattened(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, below in value.items():
        yield from _flattened(f"{key}.{name}", below)


def load_sweep_file(path: Path) -> tuple[Document, SweepSpec]:
    """Read a sweep file and check its schema, but not whether it fits its base.

    Raises:
        DefinitionError: With one line per problem.
    """
    document = read_document(path)
    if problems := list(_yaml_1_1_differences(document)):
        raise DefinitionError(problems)
    try:
        spec = SweepSpec.model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, spec.name)
    return document, spec


def _yaml_1_1_differences(document: Document) -> Iterator[Problem]:
    """Yield the values that W&B's reader (YAML 1.1) reads differently, such as 1e-4 as a string."""
    text = document.path.read_text(encoding="utf-8")
    try:
        theirs = yaml.safe_load(text)
    except Exception as error:  # its constructors raise Python's errors for invalid dates and numbers
        problems = list(_unreadable_scalars(document.path, yaml.compose(text, Loader=yaml.SafeLoader)))
        reason = getattr(error, "problem", None) or str(error)
        yield from problems or [Problem(document.where(()), f"W&B cannot read this file: {reason}")]
        return
    for key_path, ours, other in _differences((), document.value, theirs):
        if isinstance(ours, int) and not isinstance(
            ours, bool
        ):  # YAML 1.1 reads 08 as a string and 010 as eight
            advice = f"W&B reads {other!r}: write {ours}"
        elif isinstance(other, str) and isinstance(ours, float):
            advice = f"W&B reads the string {other!r}: write {_number_for_wandb(other)}"
        elif isinstance(ours, str):
            advice = f"W&B reads {other!r}: write {ours!r} in quotes"
        else:
            advice = f"W&B reads {other!r} where ema-lab reads {ours!r}: write it in another way"
        yield Problem(document.where(key_path), f"{'.'.join(map(str, key_path))}: {advice}")


def _unreadable_scalars(path: Path, node: yaml.Node | None) -> Iterator[Problem]:
    """Yield the scalars that W&B's reader cannot convert, such as the date 2024-13-45."""
    if not isinstance(node, yaml.ScalarNode):
        for part in node.value if node else ():
            for below in part if isinstance(part, tuple) else (part,):
                yield from _unreadable_scalars(path, below)
        return
    loader = yaml.SafeLoader("")
    try:
        loader.construct_object(node)
    except Exception:  # the same errors as above
        where = f"{path}:{node.start_mark.line + 1}"
        yield Problem(where, f"W&B cannot read {node.value!r}: write it in quotes")
    finally:
        loader.dispose()


def _differences(key_path: KeyPath, ours: Any, theirs: Any) -> Iterator[tuple[KeyPath, Any, Any]]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for (key, value), (other_key, other) in zip(ours.items(), theirs.items(), strict=False):
            if key != other_key:
                yield (*key_path, key), key, other_key
            yield from _differences((*key_path, key), value, other)
    elif isinstance(ours, list) and isinstance(theirs, list):
        for number, (value, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _differences((*key_path, number), value, other)
    elif type(ours) is not type(theirs) or ours != theirs:
        yield key_path, ours, theirs


def _number_for_wandb(text: str) -> str:
    """Format a number with the point and signed exponent that YAML 1.1 needs: 1e-4 as 1.0e-4."""
    match = re.fullmatch(r"([-+]?)(\d*)(?:\.(\d*))?(?:[eE]([-+]?)(\d+))?", text)
    if not match:
        return text
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    power = f"e{exponent_sign or '+'}{exponent}" if exponent else ""
    return f"{sign}{whole.lstrip('0') or 0}.{fraction or 0}{power}"
