"""Facts of each data set, known without loading it: classes, channels, size, splits, statistics."""

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
from ema_lab.wording import number_of


@dataclass(frozen=True)
class DatasetFacts:
    """Facts of a labelled image data set.

    Attributes:
        classes: Number of model outputs.
        channels: Number of image channels.
        image_size: Side length, or (height, width), in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        mean: Mean of the training pixels per channel, scaled to [0, 1].
        std: Standard deviation of the training pixels per channel, scaled to [0, 1].
        task: Name of the task.
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
        """Image shape as (channels, height, width)."""
        size = self.image_size
        return (self.channels, *((size, size) if isinstance(size, int) else size))


def _image_size(value: object) -> int | tuple[int, int]:
    sides: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(sides) > 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise problem(f"must be a number of pixels, or [height, width], got {value!r}")
    return value if isinstance(value, int) else (int(sides[0]), int(sides[-1]))


class FactsForm(Spec):
    """Schema of the literal `FACTS` in a data set's file.

    A single number as `mean` or `std` applies to every channel.
    """

    classes: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=1)]
    image_size: Annotated[int | tuple[int, int], PlainValidator(_image_size)]
    train_images: Annotated[int, Field(ge=1)]
    test_images: Annotated[int, Field(ge=1)]
    mean: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Strict(False)]
    std: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Strict(False)]
    task: Annotated[str, Field(min_length=1)] = DEFAULT_TASK

    @model_validator(mode="before")
    @classmethod
    def _spread_over_the_channels(cls, value: Any) -> Any:
        channels = value.get("channels")
        if type(channels) is not int:
            return value
        lone = {key: value[key] for key in ("mean", "std") if isinstance(value.get(key), float)}
        return {**value, **{key: (number,) * channels for key, number in lone.items()}}

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        for key in ("mean", "std"):
            if len(getattr(self, key)) != self.channels:
                rule = f"needs {number_of(self.channels, 'value')}, one per channel, got {getattr(self, key)}"
                raise invalid("facts", rule, key)
        return self


_EXPECTED = (
    'the facts of a data set are a literal such as FACTS = {"classes": 10, "channels": 3, "image_size": 32, '
    '"train_images": 1000, "test_images": 200, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}'
)


def dataset_facts(name: str, options: Mapping[str, Any]) -> DatasetFacts:
    """Return the facts of a data set: the literal `FACTS` in its file, updated by options of the same name.

    A file with several data sets keys `FACTS` by function name.

    Raises:
        SpecError: If `FACTS` is missing or malformed.
    """
    keys = {field.name for field in fields(DatasetFacts)}
    defaults = {key: option.default for key, option in DATASETS.options(name).items()}
    chosen = {k: v for k, v in {**defaults, **options}.items() if k in keys and v is not REQUIRED}
    module, attribute = split_target(DATASETS[name].target)
    try:
        where, literal = read_literal(module, "FACTS")
    except SpecError as error:
        raise SpecError(f"{error}; {_EXPECTED}") from None
    if isinstance(literal, dict) and isinstance(literal.get(attribute), dict):
        literal = literal[attribute]
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
