"""Schema of a run spec: everything that determines a result, and nothing else."""

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
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS, DETECTORS
from ema_lab.specs.augment import check_augmentation
from ema_lab.specs.dataset import DatasetFacts, dataset_facts
from ema_lab.specs.detection import settings_of_yolov5
from ema_lab.specs.named import NamedSpec, checked_options, named
from ema_lab.specs.recipe import RecipeSpec, resolved
from ema_lab.specs.start import StartSpec
from ema_lab.specs.strict import Natural, PositiveInt, Seed, Spec, canonical_json, invalid, merged, problem
from ema_lab.specs.task import TASK_PARTS, TaskDescription, task_description
from ema_lab.wording import number_of

RUN_ID_LENGTH = 16


AttentionSpec = Annotated[
    NamedSpec,
    PlainValidator(lambda value: named(ATTENTIONS, value), json_schema_input_type=str | dict[str, Any]),
]


DetectorSpec = Annotated[
    NamedSpec,
    PlainValidator(lambda value: named(DETECTOR_HEADS, value), json_schema_input_type=str | dict[str, Any]),
]
Numbers = Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)]
Blocks = Annotated[
    Literal["all", "first", "last", "even"] | Numbers,
    WrapValidator(lambda value, check: _check_blocks(value, check)),
]


def _check_blocks(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Replace pydantic's errors, one per member of the union, by a single message."""
    try:
        return check(value)
    except ValidationError:
        rule = "must be all, first, last, even, or a list of numbers within each stage, from 1"
        raise problem(f"{rule}, got {value!r}") from None


class PlacementSpec(Spec):
    """Placement of attention in a backbone: submodules, stages, blocks and widths.

    Attributes:
        after: Named shortcut, glob, or globs over submodule names. Attention goes after each match.
        replace: `se` replaces the backbone's own squeeze-and-excitation modules, instead of `after`.
        stages: Stages that get attention, counted from 1. None means all.
        blocks: Blocks that get attention, counted from 1 within each stage.
        min_channels: Minimum number of channels at the place of attention.
        max_channels: Maximum number of channels at the place of attention.
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
            raise invalid("placement", "cannot be combined with `after`: leave one of them out", "replace")
        return self


class InsertionSpec(Spec):
    """Attention module and its placement.

    Attributes:
        attention: Attention module: a name, or a mapping with its options.
        placement: Where it is inserted.
    """

    attention: AttentionSpec
    placement: PlacementSpec = PlacementSpec()

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        placement = resolved(self.placement)
        return {"attention": self.attention.resolved()} | ({"placement": placement} if placement else {})


class ModelSpec(Spec):
    """Backbone and the attention inserted into it. The attention `none` drops its placement.

    With a `detector`, the backbone is a classifier whose stages the detector reads. `start` are weights to
    start from; `frozen` are patterns of parameters that are not trained.

    Batch norms of frozen parts normalise by the batch in training and go on with their running statistics.
    `frozen_norms: evaluation` keeps the statistics, and normalises by them, as fine-tuning usually does.

    Attributes:
        detector: Detector on the backbone's stages: a name, or a mapping with its options.
        backbone: Registered backbone, or package.module:name of your own.
        options: Options of the backbone.
        attention: Attention module: a name, or a mapping with its options.
        placement: Where attention is inserted.
        also: Further modules, each with its placement.
        start: Weights to start from.
        frozen: Patterns of the names of parameters that are not trained.
        frozen_norms: Whether batch norms of frozen parts are in training or in evaluation.
    """

    detector: DetectorSpec | None = None
    backbone: str
    options: Mapping[str, Any] = {}
    attention: AttentionSpec = NamedSpec(name="none")
    placement: PlacementSpec = PlacementSpec()
    also: Annotated[tuple[InsertionSpec, ...], Strict(False)] = ()
    start: StartSpec | None = None
    frozen: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Strict(False)] = ()
    frozen_norms: Literal["training", "evaluation"] = "training"

    @model_validator(mode="wrap")
    @classmethod
    def _split_backbone_options(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Treat keys that are not fields of the spec as options of the backbone."""
        if not isinstance(value, Mapping) or not isinstance(value.get("backbone"), str):
            return handler(value)
        own = [key for key in cls.model_fields if key != "options"]
        extra_keys = {key: item for key, item in value.items() if key not in own}
        details: list[ErrorDetails] = []
        options: dict[str, Any] = {}
        try:
            options = checked_options(BACKBONES, value["backbone"], extra_keys, "backbone", other_keys=own)
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
    def _drop_placement_of_none(self) -> Self:
        if self.attention.name == "none" and self.placement != PlacementSpec():
            return self.model_copy(update={"placement": PlacementSpec()})
        return self

    @model_validator(mode="after")
    def _one_detector(self) -> Self:
        if self.detector is not None and self.backbone in DETECTORS:
            rule = f"{self.backbone} is a detector itself: leave `detector` out, or name a classifier"
            raise invalid("model", rule, "detector")
        return self

    @model_validator(mode="after")
    def _norms_of_frozen_parts(self) -> Self:
        if self.frozen_norms != "training" and not self.frozen:
            raise invalid("model", "changes nothing without `frozen`", "frozen_norms")
        return self

    @property
    def network(self) -> str:
        """The backbone's name, after that of the detector on it."""
        return self.backbone if self.detector is None else f"{self.detector.name} on {self.backbone}"

    @property
    def insertions(self) -> tuple[InsertionSpec, ...]:
        """All insertions except those of `none`."""
        first = InsertionSpec(attention=self.attention, placement=self.placement)
        return tuple(item for item in (first, *self.also) if item.attention.name != "none")

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        first = InsertionSpec(attention=self.attention, placement=self.placement).resolved()
        if self.attention.name == "none":
            first = {}
        also = {"also": [item.resolved() for item in self.also]} if self.also else {}
        detector = {} if self.detector is None else {"detector": self.detector.resolved()}
        start = {} if self.start is None else {"start": self.start.resolved()}
        frozen: dict[str, Any] = {"frozen": list(self.frozen)} if self.frozen else {}
        if self.frozen_norms != "training":
            frozen["frozen_norms"] = self.frozen_norms
        return {**detector, "backbone": self.backbone, **self.options, **first, **also, **start, **frozen}

    def identity(self) -> dict[str, Any]:
        """Return the resolved spec without the path of the start weights, which decides nothing."""
        start = {} if self.start is None else {"start": self.start.identity()}
        return {**self.resolved(), **start}

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON of what decides a result."""
        return canonical_json(self.identity())


class DataSpec(Spec):
    """Data set, its validation split and its number of training images.

    Keys that are not fields of the spec are options of the data set. If both have a key, as `synthetic`
    has `train_images`, the option wins.

    Attributes:
        name: Registered data set, or package.module:name of your own.
        options: Options of the data set.
        val_images: Size of the validation split, drawn from the training images.
        split_seed: Seed of both draws, which are stratified by class.
        train_images: Number of remaining training images to use. None uses all.
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
        with suppress(SpecError):  # checked_options() raises the error again, with its location
            taken = DATASETS.options(name)
        own = [key for key in cls.model_fields if key == "name" or key not in {"options", *taken}]
        extra_keys = {key: item for key, item in value.items() if key not in own}
        options = checked_options(DATASETS, name, extra_keys, "name", other_keys=own)
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
            after = f" after {number_of(self.val_images, 'validation image')}" if self.val_images else ""
            rule = f"must be at most {left}, the number of training images{after}, got {self.train_images}"
            raise invalid("data", rule, "train_images")
        if self.train_images == left:  # equal to the default, so both must share a run id
            object.__setattr__(self, "train_images", None)
        if self.split_seed and not self.val_images and self.train_images is None:
            raise invalid("data", "changes nothing without val_images or train_images", "split_seed")
        return self

    @property
    def trained_images(self) -> int:
        """Number of images per epoch."""
        return self.train_images or self.facts.train_images - self.val_images

    @cached_property
    def facts(self) -> DatasetFacts:
        """Facts of the data set with its options applied."""
        return dataset_facts(self.name, self.options)

    @property
    def task(self) -> TaskDescription:
        """Description of the data set's task."""
        return task_description(self.facts.task)

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        keys = ("val_images", "split_seed", "train_images")
        own = {key: getattr(self, key) for key in keys if getattr(self, key)}
        return {"name": self.name, **self.options, **own}

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON of the resolved spec."""
        return canonical_json(self.resolved())


class RunSpec(Spec):
    """One run: model, data, recipe and seed, which together determine the result.

    Attributes:
        model: Backbone and attention.
        data: Data set.
        recipe: Training recipe: in full, by name, or left to the data set.
        seed: Seed of initial weights, order and augmentation.

    Example:
        >>> model = {"backbone": "resnet20", "attention": {"name": "ema", "groups": 8}}
        >>> recipe = {"use": "digits-quick", "optimizer.lr": 0.05}
        >>> spec = ema_lab.RunSpec(model=model, data={"name": "digits"}, recipe=recipe, seed=0)
        >>> spec.run_id  # the same as that of the YAML file with these values
        'b2ff992e017e8317'
    """

    model: ModelSpec
    data: DataSpec
    recipe: RecipeSpec
    seed: Seed

    @model_validator(mode="before")
    @classmethod
    def _with_named_recipe(cls, value: Any) -> Any:
        recipe = value.get("recipe", "") if isinstance(value, Mapping) else {}
        if not isinstance(recipe, str) and not (isinstance(recipe, Mapping) and "use" in recipe):
            return value
        from ema_lab.specs.change import (
            with_given_recipe,
        )  # which training, whose recipes are in full, needs not

        return with_given_recipe(value)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.recipe.protocol == "best-val" and not self.data.val_images:
            rule = "best-val needs a validation split: set data.val_images"
            raise invalid("run", rule, "recipe", "protocol")
        if self.recipe.watch == "test" and self.data.val_images:
            rule = "test stands without validation images: remove it, or data.val_images"
            raise invalid("run", rule, "recipe", "watch")
        channels = {len(values) for values in self.recipe.statistics(self.data.facts)}
        if channels != {self.data.facts.channels}:
            rule = f"needs one value per channel: {self.data.name} has {self.data.facts.channels}"
            raise invalid("run", rule, "recipe", "normalise")
        for part in TASK_PARTS:
            given = getattr(self.recipe, part) != RecipeSpec.model_fields[part].default
            if given and part not in self.data.task.recipe:
                raise invalid("run", f"does not apply to the task {self.data.facts.task}", "recipe", part)
        check_augmentation(self.recipe.augment, self.data.facts, self.data.name)
        if self.model.detector is not None:
            self._refuse_what_a_detector_decides(self.model.detector.name)
        return self

    def _refuse_what_a_detector_decides(self, detector: str) -> None:
        """Refuse settings of YOLOv5's loss and anchors for detectors that have their own."""
        if "detection" not in self.data.task.recipe:
            raise invalid("run", f"does not apply to the task {self.data.facts.task}", "model", "detector")
        if self.recipe.label_smoothing:
            raise invalid("run", f"does not apply to the detector {detector}", "recipe", "label_smoothing")
        for place in settings_of_yolov5(self.recipe.detection):
            rule = f"does not apply to the detector {detector}, which has its own"
            raise invalid("run", rule, "recipe", "detection", *place)

    @property
    def watched(self) -> Literal["val", "test"] | None:
        """Split that is evaluated after every epoch; None if the run evaluates only at its end."""
        if self.recipe.protocol == "best-test" or self.recipe.watch == "test":
            return "test"
        return "val" if self.data.val_images else None

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        return {
            "model": self.model.resolved(),
            "data": self.data.resolved(),
            "recipe": resolved(self.recipe),
            "seed": self.seed,
        }

    @cached_property
    def run_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical resolved spec.

        The canonical text is joined from those of the parts, which cells of a grid share and cache.
        """
        parts = {"data": self.data.canonical, "model": self.model.canonical, "recipe": self.recipe.canonical}
        inner = "".join(f'"{key}":{text},' for key, text in parts.items())
        text = f'{{{inner}"seed":{canonical_json(self.seed)}}}'
        return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]

    @cached_property
    def model_key(self) -> str:
        """Hash of the model's structure, equal for runs whose models differ only in weight values."""
        data = [self.data.facts.classes, self.data.facts.channels, self.data.facts.image_size]
        text = canonical_json({"model": self.model.identity(), "data": data})
        return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]
