"""The run spec: everything that decides a result, and nothing else."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.registry.channels import CHANNELS_AS
from ema_lab.registry.registry import Registry
from ema_lab.specs.dataset import DatasetFacts, dataset_facts
from ema_lab.specs.numbers import Natural, PositiveInt, Seed
from ema_lab.specs.recipe import RecipeSpec, resolved
from ema_lab.specs.strict import Spec, canonical_json, invalid, merged, problem, with_suggestions
from ema_lab.specs.task import TASK_PARTS, TaskDescription, task_description

RUN_ID_LENGTH = 16


class NamedSpec(Spec):
    """A registered name and the options that are not at their default."""

    name: str
    options: Mapping[str, Any] = {}

    def resolved(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and those of what it is made `of`."""
        inner = self.options.get("of")
        below = NamedSpec(name=inner["name"], options=_without_name(inner)).names if inner else ()
        return (self.name, *below)


def _without_name(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "name"}


def named(registry: Registry, value: object) -> NamedSpec:
    """Read `name` or `{name: ..., option: ...}`, with the options checked against the signature."""
    if isinstance(value, NamedSpec):
        return value
    if value is None:
        raise invalid(registry.kind, f"must name one of {', '.join(registry)}, not null")
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise invalid(registry.kind, "must be a name or a mapping with a name", value=value)
    name = value["name"]
    options = _without_name(value)
    if "of" in options:
        options["of"] = _wrapped(registry, options["of"])
    return NamedSpec(name=name, options=checked_options(registry, name, options, "name"))


def _wrapped(registry: Registry, value: object) -> dict[str, Any]:
    """Read the spec that a wrapper is made `of`."""
    try:
        return named(registry, value).resolved()
    except ValidationError as error:
        details = [{**item, "loc": ("of", *item["loc"])} for item in error.errors(include_url=False)]
        raise merged(registry.kind, details) from None  # type: ignore[arg-type]


def checked_options(
    registry: Registry, name: str, options: Mapping[str, Any], *name_key: str, beside: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the options that differ from their defaults; the errors are located below the spec.

    Args:
        beside: Keys that may stand beside the options, to suggest them for an unknown one.
    """
    try:
        return registry.check(name, options)
    except SpecError as error:
        raise invalid(registry.kind, str(error), *name_key, value=name) from None
    except ValidationError as error:
        known = registry.options(name, options.get(CHANNELS_AS))
        raise with_suggestions(error, [*known, *beside]) from None


AttentionSpec = Annotated[
    NamedSpec,
    PlainValidator(lambda value: named(ATTENTIONS, value), json_schema_input_type=str | dict[str, Any]),
]


Numbers = Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)]
Blocks = Annotated[
    Literal["all", "first", "last", "even"] | Numbers,
    WrapValidator(lambda value, check: _blocks(value, check)),
]


def _blocks(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Say in one line what pydantic would say once per kind of value."""
    try:
        return check(value)
    except ValidationError:
        rule = "must be all, first, last, even, or a list of numbers within each stage, from 1"
        raise problem(f"{rule}, got {value!r}") from None


class PlacementSpec(Spec):
    """Where attention goes: after which submodules, in which stages and blocks, at which widths.

    `blocks` are counted within each stage. `replace: se` puts it in the place of the backbone's own
    squeeze-and-excitation modules, instead of after something.
    """

    after: str | Annotated[tuple[str, ...], Strict(False), Field(min_length=1)] = "block_end"
    replace: Literal["se"] | None = None
    stages: Numbers | None = None
    blocks: Blocks = "all"
    min_channels: PositiveInt | None = None
    max_channels: PositiveInt | None = None

    @model_validator(mode="after")
    def _after_or_replace(self) -> Self:
        if self.replace and "after" in self.model_fields_set:
            raise invalid("placement", "stands in for `after`: leave one of them out", "replace")
        return self


class InsertionSpec(Spec):
    """One attention module and its placement."""

    attention: AttentionSpec
    placement: PlacementSpec = PlacementSpec()

    def resolved(self) -> dict[str, Any]:
        placement = resolved(self.placement)
        return {"attention": self.attention.resolved()} | ({"placement": placement} if placement else {})


class ModelSpec(Spec):
    """A backbone and the attention inserted into it. With `none` the placement is dropped."""

    backbone: str
    options: Mapping[str, Any] = {}
    attention: AttentionSpec = NamedSpec(name="none")
    placement: PlacementSpec = PlacementSpec()
    also: Annotated[tuple[InsertionSpec, ...], Strict(False)] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _split_backbone_options(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keys that are not the spec's own are options of the backbone."""
        if not isinstance(value, Mapping) or not isinstance(value.get("backbone"), str):
            return handler(value)
        own = [key for key in cls.model_fields if key != "options"]
        given = {key: item for key, item in value.items() if key not in own}
        details: list[ErrorDetails] = []
        options: dict[str, Any] = {}
        try:
            options = checked_options(BACKBONES, value["backbone"], given, "backbone", beside=own)
        except ValidationError as error:
            details += error.errors(include_url=False)
        try:
            spec = handler({key: item for key, item in value.items() if key in own} | {"options": options})
        except ValidationError as error:
            details += error.errors(include_url=False)
        if details:
            raise merged(cls.__name__, details)
        return spec

    @model_validator(mode="after")
    def _drop_the_placement_of_nothing(self) -> Self:
        if self.attention.name == "none" and self.placement != PlacementSpec():
            return self.model_copy(update={"placement": PlacementSpec()})
        return self

    @property
    def insertions(self) -> tuple[InsertionSpec, ...]:
        first = InsertionSpec(attention=self.attention, placement=self.placement)
        return tuple(item for item in (first, *self.also) if item.attention.name != "none")

    def resolved(self) -> dict[str, Any]:
        first = InsertionSpec(attention=self.attention, placement=self.placement).resolved()
        if self.attention.name == "none":
            first = {}
        also = {"also": [item.resolved() for item in self.also]} if self.also else {}
        return {"backbone": self.backbone, **self.options, **first, **also}

    @cached_property
    def canonical(self) -> str:
        """The canonical JSON of the resolved spec."""
        return canonical_json(self.resolved())


class DataSpec(Spec):
    """A data set, its validation split, and how many of the training images are used.

    `val_images` are taken from the training images, then `train_images` from the rest (None takes
    all); both choices are stratified and depend on `split_seed` alone. Keys that are not the spec's
    own are options of the data set; where both have a key, as `synthetic` has `train_images`, the
    option wins.
    """

    name: str
    options: Mapping[str, Any] = {}
    val_images: Natural = 0
    split_seed: Natural = 0
    train_images: PositiveInt | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _split_options(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return handler(value)
        name = value["name"]
        taken: Iterable[str] = ()
        with suppress(SpecError):  # checked_options() raises it again, with its place
            taken = DATASETS.options(name)
        own = [key for key in cls.model_fields if key == "name" or key not in {"options", *taken}]
        given = {key: item for key, item in value.items() if key not in own}
        options = checked_options(DATASETS, name, given, "name", beside=own)
        return handler({key: item for key, item in value.items() if key in own} | {"options": options})

    @model_validator(mode="after")
    def _check_the_split(self) -> Self:
        try:
            _ = self.facts
        except SpecError as error:
            raise invalid("data", str(error), "name", value=self.name) from None
        if self.val_images >= self.facts.train_images:
            rule = f"must leave training images, got {self.val_images} of {self.facts.train_images}"
            raise invalid("data", rule, "val_images")
        left = self.facts.train_images - self.val_images
        if self.train_images is not None and self.train_images > left:
            after = f" after {self.val_images} validation images" if self.val_images else ""
            rule = (
                f"must be at most the {left} training images that there are{after}, got {self.train_images}"
            )
            raise invalid("data", rule, "train_images")
        if self.train_images == left:  # all of them is no choice, and the same run
            object.__setattr__(self, "train_images", None)
        if self.split_seed and not self.val_images and self.train_images is None:
            raise invalid("data", "changes nothing without val_images or train_images", "split_seed")
        return self

    @property
    def trained_images(self) -> int:
        """The number of images in an epoch."""
        return self.train_images or self.facts.train_images - self.val_images

    @cached_property
    def facts(self) -> DatasetFacts:
        return dataset_facts(self.name, self.options)

    @property
    def task(self) -> TaskDescription:
        """The description of what is learned from the data set."""
        return task_description(self.facts.task)

    def resolved(self) -> dict[str, Any]:
        keys = ("val_images", "split_seed", "train_images")
        own = {key: getattr(self, key) for key in keys if getattr(self, key)}
        return {"name": self.name, **self.options, **own}

    @cached_property
    def canonical(self) -> str:
        """The canonical JSON of the resolved spec."""
        return canonical_json(self.resolved())


class RunSpec(Spec):
    """One cell of an experiment: model, data, recipe and seed decide the result together."""

    model: ModelSpec
    data: DataSpec
    recipe: RecipeSpec
    seed: Seed

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.recipe.protocol == "best-val" and not self.data.val_images:
            rule = "best-val needs a validation split: set data.val_images"
            raise invalid("run", rule, "recipe", "protocol")
        channels = {len(values) for values in self.recipe.statistics(self.data.facts)}
        if channels != {self.data.facts.channels}:
            rule = f"needs one value per channel: {self.data.name} has {self.data.facts.channels}"
            raise invalid("run", rule, "recipe", "normalise")
        for part in TASK_PARTS:
            given = getattr(self.recipe, part) != RecipeSpec.model_fields[part].default
            if given and part not in self.data.task.recipe:
                raise invalid("run", f"does not apply to the task {self.data.facts.task}", "recipe", part)
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data, keys at their default left out."""
        return {
            "model": self.model.resolved(),
            "data": self.data.resolved(),
            "recipe": resolved(self.recipe),
            "seed": self.seed,
        }

    @cached_property
    def run_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical resolved spec.

        Cells of a grid share their parts, so the text is put together from the parts' own.
        """
        parts = {"data": self.data.canonical, "model": self.model.canonical, "recipe": self.recipe.canonical}
        inner = "".join(f'"{key}":{text},' for key, text in parts.items())
        text = f'{{{inner}"seed":{canonical_json(self.seed)}}}'
        return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]

    @cached_property
    def model_key(self) -> str:
        """Equal for runs whose built models are equal but for their weights' values."""
        data = [self.data.facts.classes, self.data.facts.channels, self.data.facts.image_size]
        text = canonical_json({"model": self.model.resolved(), "data": data})
        return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]
