"""What is known of each data set without loading it: classes, channels, size, splits, statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, Strict, ValidationError, model_validator

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import DATASETS
from ema_lab.registry.signature import REQUIRED, read_literal, split_target
from ema_lab.specs.document import error_messages
from ema_lab.specs.strict import Spec, invalid, problem
from ema_lab.specs.task import DEFAULT_TASK, task_description


@dataclass(frozen=True)
class DatasetFacts:
    """A labelled image data set. `mean` and `std` are of the training pixels scaled to [0, 1].

    `image_size` is a side, or height and width. `classes` is the number of outputs that a model needs, and
    `task` the name of what is learned.
    """

    classes: int
    channels: int
    image_size: int | tuple[int, int]
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = DEFAULT_TASK

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        size = self.image_size
        return (self.channels, *((size, size) if isinstance(size, int) else size))


_FACTS: Mapping[str, DatasetFacts] = {
    "cifar10": DatasetFacts(
        10, 3, 32, 50_000, 10_000, (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    ),
    "cifar100": DatasetFacts(
        100, 3, 32, 50_000, 10_000, (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
    ),
    "digits": DatasetFacts(10, 1, 8, 1_437, 360, (0.30519,), (0.37580,)),
    "fashion_mnist": DatasetFacts(10, 1, 28, 60_000, 10_000, (0.28604059,), (0.35302424,)),
    # The statistics that ImageNet models are published with; the test split is ImageNet's validation set.
    "imagenet": DatasetFacts(1000, 3, 224, 1_281_167, 50_000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def _image_size(value: object) -> int | tuple[int, int]:
    sides: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(sides) > 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise problem(f"must be a number of pixels, or [height, width], got {value!r}")
    return value if isinstance(value, int) else (int(sides[0]), int(sides[-1]))


class FactsForm(Spec):
    """The form of the literal `FACTS` in the file of a data set of one's own."""

    classes: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=1)]
    image_size: Annotated[int | tuple[int, int], PlainValidator(_image_size)]
    train_images: Annotated[int, Field(ge=1)]
    test_images: Annotated[int, Field(ge=1)]
    mean: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Strict(False)]
    std: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Strict(False)]
    task: Annotated[str, Field(min_length=1)] = DEFAULT_TASK

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        for key in ("mean", "std"):
            if len(getattr(self, key)) != self.channels:
                rule = f"needs one value for each of {self.channels} channels, got {getattr(self, key)}"
                raise invalid("facts", rule, key)
        return self


_EXPECTED = (
    'the facts of a data set are a literal such as FACTS = {"classes": 10, "channels": 3, "image_size": 32, '
    '"train_images": 1000, "test_images": 200, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}'
)


def dataset_facts(name: str, options: Mapping[str, Any]) -> DatasetFacts:
    """Return the facts of a data set; options of it that are named as a fact replace it.

    Those of a data set that is not shipped are the literal `FACTS` in the file of its function.

    Raises:
        SpecError: If that literal is absent or malformed.
    """
    if name in _FACTS:
        return _FACTS[name]
    keys = {field.name for field in fields(DatasetFacts)}
    defaults = {key: option.default for key, option in DATASETS.options(name).items()}
    chosen = {k: v for k, v in {**defaults, **options}.items() if k in keys and v is not REQUIRED}
    if name == "synthetic":
        channels, size = chosen["channels"], chosen["image_size"]
        chosen["image_size"] = tuple(size) if isinstance(size, list) else size
        return DatasetFacts(**chosen, mean=(0.5,) * channels, std=(0.25,) * channels)
    return _own_facts(name, chosen)


def _own_facts(name: str, chosen: Mapping[str, Any]) -> DatasetFacts:
    try:
        where, literal = read_literal(split_target(DATASETS[name].target)[0], "FACTS")
    except SpecError as error:
        raise SpecError(f"{error}; {_EXPECTED}") from None
    if not isinstance(literal, dict):
        raise SpecError(f"{where}: FACTS must be a dict, got {literal!r}; {_EXPECTED}")
    try:
        form = FactsForm.model_validate({**literal, **chosen})
    except ValidationError as error:
        problems = "; ".join(message for _, message in error_messages(error))
        raise SpecError(f"{where}: FACTS: {problems}; {_EXPECTED}") from None
    try:
        task_description(form.task)
    except SpecError as error:
        raise SpecError(f"{where}: FACTS: task: {error}") from None
    return DatasetFacts(**form.model_dump())
