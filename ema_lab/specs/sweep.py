"""The form of a sweep file: Weights & Biases' own sweep configuration, checked strictly.

Its keys and distributions are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys.
"""

import itertools
import operator
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
from ema_lab.specs.document import Document, Place, read_document
from ema_lab.specs.numbers import Finite, PositiveInt, Seed
from ema_lab.specs.parameter import Number, ParameterSpec
from ema_lab.specs.report import require_file_name
from ema_lab.specs.strict import Spec, canonical_json, invalid, problem
from ema_lab.specs.task import METRIC_PATTERN, TaskDescription

VALIDATION = "val_"
COMMAND = ("ema-lab", "trial", "${args_json}")
METHODS = ("grid", "random", "bayes")
OWN_KEYS = ("base", "seeds")
GROUPS = ("model", "data", "recipe")
MOST_STEPS = 100_000
MOST_EPOCHS = 1_000_000_000  # of a band: nobody trains so long, and every float tells such numbers apart
MOST_BANDS = 100  # as W&B has from min_iter on
GRID_DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "q_uniform")


def _validation_metric(name: str) -> str:
    """Check the form of a name; whether the base's task has such a metric is checked with the base."""
    if not name.startswith(VALIDATION):
        raise problem(f"test data chooses nothing: write {VALIDATION}{name.removeprefix('test_')}")
    return name


def _method(name: object) -> object:
    if name == "custom":
        raise problem("W&B's custom is a program of your own that chooses: ema-lab has grid, random, bayes")
    return name


class SweepMetric(Spec):
    """The metric that a search improves, by default the primary one of the base's task.

    `target`: the search ends once a trial reaches this value.
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
        """Return the metric with its name filled in.

        Raises:
            ValidationError: If the task has no such metric, or the goal is not its direction.
        """
        known = [f"{VALIDATION}{metric}" for metric in task.metrics]
        name = self.name or f"{VALIDATION}{task.primary}"
        if name not in known:
            raise invalid("metric", f"must be one of {', '.join(known)}, got {name!r}", "name")
        right = "maximize" if task.metrics[name.removeprefix(VALIDATION)].sign > 0 else "minimize"
        if self.goal != right:
            said = "" if "goal" in self.model_fields_set else " (W&B minimizes where nothing is said)"
            raise invalid("metric", f"must be {right} for {name}, got {self.goal}{said}", "goal")
        return self.model_copy(update={"name": name})


Iterations = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


class HyperbandSpec(Spec):
    """W&B's early stopping: at each band of epochs the best 1/eta go on.

    Bands are `max_iter` / `eta`, `max_iter` / `eta` ** 2, ..., `s` of them; without `max_iter` they are
    `min_iter`, `min_iter` x `eta`, .... As at W&B, `max_iter` overrules `min_iter`.
    """

    type: Literal["hyperband"]
    min_iter: Iterations | None = None
    max_iter: Iterations | None = None
    s: Annotated[int, Field(ge=1, le=MOST_BANDS)] | None = None
    eta: Annotated[Number, Field(gt=1)] = 3
    strict: bool = False

    @model_validator(mode="after")
    def _has_bands(self) -> Self:
        if self.min_iter is None and self.max_iter is None:
            raise invalid("early_terminate", "needs min_iter, or max_iter and s")
        if self.max_iter is not None and self.s is None:
            rule = "needs s, the number of bands below max_iter (where both are given, max_iter is used)"
            raise invalid("early_terminate", rule, "max_iter")
        if self.max_iter is not None and self.max_iter < self.eta:
            rule = f"max_iter / eta must be 1 or more, or there is no band, got {self.max_iter} / {self.eta}"
            raise invalid("early_terminate", rule, "max_iter")
        return self

    def overruled(self) -> Iterator[tuple[str, str]]:
        """Yield each key that changes nothing because of the others, and why."""
        if self.max_iter is not None and self.min_iter is not None:
            yield "min_iter", "max_iter and s say which the bands are"
        if self.max_iter is None and self.s is not None:
            yield "s", "it counts bands below max_iter, and there is none"

    @property
    def first_band(self) -> int:
        """The first epoch at which a trial may be stopped."""
        return self.until(MOST_EPOCHS)[0]

    def until(self, epochs: int) -> tuple[int, ...]:
        """Return the bands of runs of so many epochs, the first one first."""
        bands = itertools.takewhile(lambda band: 1 <= band <= MOST_EPOCHS, self._steps())
        return tuple(sorted({int(band) for band in bands if band <= epochs}))

    def _steps(self) -> Iterator[float]:
        """Yield the bands as W&B computes them, before it cuts off their fractions."""
        if self.max_iter is None:
            assert self.min_iter is not None
            factors = itertools.repeat(self.eta, MOST_BANDS - 1)
            return itertools.accumulate(factors, operator.mul, initial=self.min_iter)
        assert self.s is not None
        below = itertools.accumulate(itertools.repeat(self.eta), operator.truediv, initial=self.max_iter)
        return itertools.islice(below, 1, 1 + self.s)


class ControllerSpec(Spec):
    """W&B's word for who chooses the trials of a sweep on its server: the server, or a local process."""

    type: Literal["local", "cloud"]


class SweepSpec(Spec):
    """A search over hyper-parameters. `parameters` are dotted keys of the run spec, `base` and `seeds`.

    `base: {value: ABLATION/VARIANT}` is what the others change; `seeds: {value: [0, 1]}` are trained for
    every trial, whose value is their mean.
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
            what = "the method bayes" if self.method == "bayes" else "early_terminate"
            raise invalid("sweep", f"is needed by {what}", "metric")
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
            raise invalid("sweep", "must have one with more than one value", "parameters")
        self._check_keys()
        for _, place, parameter in self.searched():
            if self.method == "grid" and parameter.kind not in GRID_DISTRIBUTIONS:
                rule = f"a grid needs {', '.join(GRID_DISTRIBUTIONS)}; this is {parameter.kind}"
                raise invalid("sweep", rule, *place)
            if self.method == "grid" and parameter.num_steps > MOST_STEPS:
                rule = f"a grid tries each value of a range, at most {MOST_STEPS:,}, and this has more"
                raise invalid("sweep", rule, *place)
        return self

    def _check_keys(self) -> None:
        """Refuse what is given twice: flat and in groups, or in the mapping that is another key's value."""
        given: dict[str, str] = {}
        for key, place, parameter in self.searched():
            values = parameter.values or (parameter.value,)
            for below in dict.fromkeys(one for value in values for one, _ in _flattened(key, value)):
                if below in given:
                    both = f"by {given[below]} above and by {key}"
                    raise invalid("sweep", f"{below} is given twice, {both}", *place)
                given[below] = key

    def searched(self) -> Iterator[tuple[str, Place, ParameterSpec]]:
        """Yield each parameter but `base` and `seeds`: its dotted key, its place in the file, itself."""
        for key, parameter in self.parameters.items():
            if key not in OWN_KEYS:
                yield from _leaves(key, ("parameters", key), parameter)

    def idle_offline(self) -> Iterator[Place]:
        """Yield the keys that mean something to W&B's server alone."""
        for key in ("impute", "impute_while_running"):
            if self.metric is not None and getattr(self.metric, key) not in {None, "false"}:
                yield "metric", key
        if self.early_terminate is not None and self.early_terminate.strict:
            yield "early_terminate", "strict"
        if self.controller is not None:
            yield ("controller",)

    def idle(self) -> Iterator[tuple[Place, str]]:
        """Yield the keys that mean less than they seem to, at W&B too, and what they do."""
        if self.early_terminate is not None:
            for key, why in self.early_terminate.overruled():
                yield ("early_terminate", key), f"changes nothing: {why}"
        for _, place, parameter in self.searched():
            if parameter.repeated:
                how = "a grid tries each once" if self.method == "grid" else "each is drawn more often"
                named = ", ".join(map(canonical_json, parameter.repeated))
                yield (*place, "values"), f"repeats {named}: {how}, as at W&B"

    @property
    def base(self) -> str:
        return str(self.parameters["base"].value)

    @property
    def seeds(self) -> tuple[Seed, ...]:
        return tuple(self.parameters["seeds"].value)

    def goal_for(self, task: TaskDescription) -> SweepMetric:
        """Return what a search of runs of this task improves.

        Raises:
            ValidationError: If the task has no such metric, or the goal is not its direction.
        """
        if self.metric is not None:
            return self.metric.for_task(task)
        goal = "maximize" if task.metrics[task.primary].sign > 0 else "minimize"
        return SweepMetric(name=f"{VALIDATION}{task.primary}", goal=goal)


def seeds_problem(seeds: object) -> str | None:
    """Return what is wrong with the value of `seeds`, or None."""
    if not isinstance(seeds, list) or not seeds or len(set(map(repr, seeds))) < len(seeds):
        return f"must be a list of different seeds, got {seeds!r}"
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**63:
            return f"must be whole numbers from 0, got {seed!r}"
    return None


def _in_order(words: tuple[str, ...], command: tuple[str, ...]) -> bool:
    """Whether a command has these words in this order; others, such as options, may stand between."""
    rest = iter(command)
    return all(word in rest for word in words)


def _leaves(key: str, place: Place, parameter: ParameterSpec) -> Iterator[tuple[str, Place, ParameterSpec]]:
    """Yield the parameters of a group; those in groups hold no mappings, so that JSON can be flattened."""
    inside = "parameters" in place[1:]
    if parameter.parameters is None:
        values = parameter.values or (parameter.value,)
        if (inside or key in GROUPS) and any(isinstance(value, Mapping) for value in values):
            raise invalid("sweep", "a mapping as a value needs a flat dotted key, such as a.b.c", *place)
        yield key, place, parameter
        return
    if not inside and key not in GROUPS:
        rule = f"parameters stand inside {', '.join(GROUPS)}; below them, write dotted keys"
        raise invalid("sweep", rule, *place)
    for name, below in parameter.parameters.items():
        yield from _leaves(f"{key}.{name}", (*place, "parameters", name), below)


def flat_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's parameters, as W&B hands them on, by dotted key.

    Raises:
        SpecError: If a group and a dotted key both give a value.
    """
    flat: dict[str, Any] = {}
    for key, value in given.items():
        for dotted_key, one in _flattened(key, value) if key in GROUPS else [(key, value)]:
            if dotted_key in flat:
                raise SpecError(f"{dotted_key}: is given twice")
            flat[dotted_key] = one
    return flat


def _flattened(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, below in value.items():
        yield from _flattened(f"{key}.{name}", below)


def load_sweep_file(path: Path) -> tuple[Document, SweepSpec]:
    """Read and check the form of a sweep file; whether it fits its base is not yet known.

    Raises:
        DefinitionError: With a line per problem.
    """
    document = read_document(path)
    if problems := list(_read_differently(document)):
        raise DefinitionError(problems)
    try:
        spec = SweepSpec.model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, spec.name)
    return document, spec


def _read_differently(document: Document) -> Iterator[Problem]:
    """Yield what W&B's reader (YAML 1.1) makes something else of: to it, 1e-4 is a word."""
    text = document.path.read_text(encoding="utf-8")
    try:
        theirs = yaml.safe_load(text)
    except Exception as error:  # its constructors raise whatever Python does of a wrong date or number
        found = list(_unread_words(document.path, yaml.compose(text, Loader=yaml.SafeLoader)))
        reason = getattr(error, "problem", None) or str(error)
        yield from found or [Problem(document.where(()), f"W&B cannot read this file: {reason}")]
        return
    for place, ours, other in _differences((), document.value, theirs):
        if isinstance(ours, int) and not isinstance(ours, bool):  # 08 is a word to it, 010 is eight
            advice = f"W&B reads {other!r}: write {ours}"
        elif isinstance(other, str) and isinstance(ours, float):
            advice = f"W&B reads the word {other!r}: write {_number_for_wandb(other)}"
        elif isinstance(ours, str):
            advice = f"W&B reads {other!r}: write {ours!r} in quotes"
        else:
            advice = f"W&B reads {other!r} where ema-lab reads {ours!r}: write it in another way"
        yield Problem(document.where(place), f"{'.'.join(map(str, place))}: {advice}")


def _unread_words(path: Path, node: yaml.Node | None) -> Iterator[Problem]:
    """Yield the words that W&B's reader cannot make a value of, such as the date 2024-13-45."""
    if not isinstance(node, yaml.ScalarNode):
        for part in node.value if node else ():
            for below in part if isinstance(part, tuple) else (part,):
                yield from _unread_words(path, below)
        return
    loader = yaml.SafeLoader("")
    try:
        loader.construct_object(node)
    except Exception:  # as above
        where = f"{path}:{node.start_mark.line + 1}"
        yield Problem(where, f"W&B cannot read the word {node.value!r}: write it in quotes")
    finally:
        loader.dispose()


def _differences(place: Place, ours: Any, theirs: Any) -> Iterator[tuple[Place, Any, Any]]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for (key, value), (other_key, other) in zip(ours.items(), theirs.items(), strict=False):
            if key != other_key:
                yield (*place, key), key, other_key
            yield from _differences((*place, key), value, other)
    elif isinstance(ours, list) and isinstance(theirs, list):
        for number, (value, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _differences((*place, number), value, other)
    elif type(ours) is not type(theirs) or ours != theirs:
        yield place, ours, theirs


def _number_for_wandb(text: str) -> str:
    """Return a number with the point and the signed exponent that YAML 1.1 needs: 1e-4 is 1.0e-4."""
    found = re.fullmatch(r"([-+]?)(\d*)(?:\.(\d*))?(?:[eE]([-+]?)(\d+))?", text)
    if not found:
        return text
    sign, whole, fraction, exponent_sign, exponent = found.groups()
    power = f"e{exponent_sign or '+'}{exponent}" if exponent else ""
    return f"{sign}{whole.lstrip('0') or 0}.{fraction or 0}{power}"
