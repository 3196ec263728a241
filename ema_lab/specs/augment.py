"""Schema of the random augmentation of training images. Defaults never change."""

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.strict import AreaShare, Natural, NonNegative, PositiveInt, Spec, invalid
from ema_lab.specs.task import DEFAULT_TASK

Chance = Annotated[float, Field(gt=0, le=1)]


class RandAugmentSpec(Spec):
    """Random operations on each image: RandAugment (arXiv:1909.13719) with timm's operations and strengths.

    Attributes:
        magnitude: Strength of the operations, from 0 to 10.
        std: Standard deviation of the strength around `magnitude`, drawn for every operation.
        operations: Number of operations per image, drawn with replacement.
        probability: Probability that a drawn operation is applied.
        increasing: Whether every operation changes the image more at a greater magnitude. Otherwise, as by
            timm's default, posterising and solarising change it less, and colour operations go from reducing
            colour to enhancing it.
    """

    magnitude: Annotated[float, Field(ge=0, le=10)]
    std: NonNegative = 0.0
    operations: PositiveInt = 2
    probability: Chance = 0.5
    increasing: bool = False


class ColourSpec(Spec):
    """Random changes of colour in a random order, as by torchvision's ColorJitter.

    Attributes:
        brightness: Largest change of the brightness, as a share of it.
        contrast: Largest change of the contrast, as a share of it.
        saturation: Largest change of the saturation, as a share of it.
        hue: Largest shift of the hue, as a share of the colour circle, up to 0.5.
    """

    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            raise invalid("colour", "changes nothing: set brightness, contrast, saturation or hue")
        return self


class EraseSpec(Spec):
    """Random erasing of a rectangle (arXiv:1708.04896), whose aspect ratio is 0.3 to 3.3.

    Attributes:
        probability: Probability that an image loses a rectangle.
        area: Range of the rectangle's area relative to the image.
        fill: `mean` fills it with the mean that normalises images, `noise` each pixel with a normal number of
            that mean and deviation.
    """

    probability: Chance
    area: Annotated[tuple[AreaShare, AreaShare], Strict(False)] = (0.02, 1 / 3)
    fill: Literal["mean", "noise"] = "mean"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range("erase", self.area, "area")
        return self


class MixSpec(Spec):
    """Mixup or CutMix: mixture of each image and its label with the next one of the batch.

    With both, each image gets one of them, with equal probability.

    Attributes:
        mixup: Parameter of the Beta distribution of Mixup's share (arXiv:1710.09412); 0 turns Mixup off.
        cutmix: Parameter of the Beta distribution of CutMix's area (arXiv:1905.04899); 0 turns CutMix off.
        probability: Probability that an image is mixed.
    """

    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    probability: Chance = 1.0

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.mixup and not self.cutmix:
            raise invalid("mix", "changes nothing: set mixup or cutmix")
        return self


class ResolutionSpec(Spec):
    """Smaller training images in early epochs. Evaluation is always at the data set's size.

    Attributes:
        start: Height and width of the first epoch's images, in pixels.
        full_from: Epoch, counted from 0, from which images have the data set's size. Before it the size grows
            linearly.
        multiple_of: Number of pixels of which every smaller size is a multiple.
    """

    start: PositiveInt
    full_from: PositiveInt
    multiple_of: PositiveInt = 1

    @model_validator(mode="after")
    def _a_multiple(self) -> Self:
        if self.start % self.multiple_of:
            rule = f"must be a multiple of multiple_of: {self.multiple_of}, got {self.start}"
            raise invalid("resolution", rule, "start")
        return self

    def size(self, epoch: int, full: int) -> int:
        """Return the height and width of an epoch's images, in pixels."""
        if epoch >= self.full_from:
            return full
        grown = (full - self.start) * epoch // self.full_from
        return self.start + grown // self.multiple_of * self.multiple_of


class AugmentSpec(Spec):
    """Random augmentation of training images, in this order; by default none.

    Attributes:
        crop_padding: Zero padding in pixels on each side before a random crop of the image size.
        flip: Whether to flip an image horizontally with probability 1/2.
        resized_crop_area: Range of the crop's area relative to the image, such as [0.08, 1.0]. The aspect
            ratio is 3/4 to 4/3, and the crop is resized as by torchvision's RandomResizedCrop.
        resolution: Smaller images in early epochs.
        randaugment: Random operations on each image.
        colour: Random changes of colour.
        erase: Random rectangle that is erased.
        mix: Mixture of images and their labels.
    """

    crop_padding: Natural = 0
    flip: bool = False
    resized_crop_area: Annotated[tuple[AreaShare, AreaShare], Strict(False)] | None = None
    resolution: ResolutionSpec | None = None
    randaugment: RandAugmentSpec | None = None
    colour: ColourSpec | None = None
    erase: EraseSpec | None = None
    mix: MixSpec | None = None

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.resized_crop_area is None:
            return self
        _check_range("augment", self.resized_crop_area, "resized_crop_area")
        if self.crop_padding:
            rule = "and crop_padding are two ways to crop: set one of them"
            raise invalid("augment", rule, "resized_crop_area")
        return self

    @property
    def needs_a_loader(self) -> bool:
        """Return whether a data loader is needed: a device can only make padded crops and flips."""
        return self != AugmentSpec(crop_padding=self.crop_padding, flip=self.flip)


def _check_range(title: str, area: tuple[float, float], key: str) -> None:
    least, greatest = area
    if least > greatest:
        raise invalid(title, f"needs the smaller share first, got {[least, greatest]}", key)


def check_augmentation(augment: AugmentSpec, facts: DatasetFacts, data: str) -> None:
    """Check that an augmentation fits a run's data.

    Raises:
        ValidationError: If it mixes labels of another task than classification, or images do not grow.
    """
    place = ("recipe", "augment")
    if augment.mix is not None and facts.task != DEFAULT_TASK:
        raise invalid("run", f"does not apply to the task {facts.task}", *place, "mix")
    if (growing := augment.resolution) is None:
        return
    size = facts.image_size
    if not isinstance(size, int):
        raise invalid("run", f"needs square images: {data} has {list(size)}", *place, "resolution")
    if growing.start >= size:
        rule = f"must be below the image size of {data}, {size}, got {growing.start}"
        raise invalid("run", rule, *place, "resolution", "start")
