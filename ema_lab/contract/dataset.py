"""Contract of data sets: the rules on which loading, splitting and run records rely."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ema_lab.contract.check import Check, NotApplicableError, require
from ema_lab.contract.option import options_are_explained
from ema_lab.data.augmentation import random_crops
from ema_lab.data.images import ImageSource, ImageSplits, LabelledImages
from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import DATASETS
from ema_lab.registry.signature import source_file, split_target
from ema_lab.specs.dataset import DatasetFacts, dataset_facts
from ema_lab.wording import are, number_of

STATISTICS_TOLERANCE = 0.01
SAMPLE = 512  # images to read from a data set that is not in memory


@dataclass(frozen=True)
class DatasetCase:
    """Data set under check.

    Attributes:
        target: A registered name or "package.module:function".
        root: The data folder.
        options: Options of the data set.
    """

    target: str
    root: Path = Path("data")
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return source_file(split_target(DATASETS[self.target].target)[0])

    @property
    def definition(self) -> str:
        return DATASETS.signature(self.target).short_location

    def load(self) -> ImageSplits:
        splits: ImageSplits = DATASETS.build(self.target, self.root, **self.options)
        return splits

    @cached_property
    def splits(self) -> ImageSplits:
        return self.load()

    @cached_property
    def facts(self) -> DatasetFacts | None:
        """The declared facts, read without loading the data; None for a data set without FACTS."""
        try:
            return dataset_facts(self.target, self.options)
        except SpecError:
            return None

    @property
    def known(self) -> DatasetFacts:
        """The declared facts.

        Raises:
            NotApplicableError: If the data set declares no facts.
        """
        if self.facts is None:
            raise NotApplicableError("its file has no FACTS that can be read")
        return self.facts

    def parts(self) -> Iterator[tuple[str, ImageSource]]:
        """Yield name and images of the training split and of the test split."""
        yield "train", self.splits.train
        yield "test", self.splits.test


def _is_loaded(case: DatasetCase) -> str:
    for name in ("train", "test"):
        labels = getattr(getattr(case.splits, name, None), "labels", None)
        require(isinstance(labels, Tensor), f"what it returns has no tensor `{name}.labels`")
    train, test = len(case.splits.train.labels), len(case.splits.test.labels)
    return f"{train:,} training and {number_of(test, 'test image')}"


def _images_are_bytes(case: DatasetCase) -> str:
    for name, part in case.parts():
        images = _sample(part)
        require(images.dtype == torch.uint8, f"{name} images are {images.dtype}, not torch.uint8")
        require(images.dim() == 4, f"{name} images are {tuple(images.shape)}, not (N, C, H, W)")
        require(
            len(part.labels) == part.shape[0],
            f"{name}: {number_of(part.shape[0], 'image')}, {number_of(len(part.labels), 'label')}",
        )
        require(
            images.shape[1:] == part.shape[1:], f"{name} images are {tuple(images.shape)}, not {part.shape}"
        )
        _crops_are_bytes(name, part)
    return str(tuple(case.splits.train.shape))


def _crops_are_bytes(name: str, part: ImageSource) -> None:
    first, expected = torch.tensor([0]), (1, *part.shape[1:])
    crop = part.cropped(first, random_crops(first, (0.5, 1.0), seed=0, epoch=0))
    actual = f"{crop.dtype} {tuple(crop.shape)}"
    right = crop.dtype == torch.uint8 and tuple(crop.shape) == expected
    require(right, f"{name}: a random crop is {actual}, not torch.uint8 {expected}")


def _sample(part: ImageSource) -> Tensor:
    """Return all images of a split in memory, or an evenly spread sample of a split on disk."""
    if isinstance(part, LabelledImages):
        return part.images
    count = len(part.labels)
    return part.whole(torch.arange(0, count, max(1, count // SAMPLE)))


def _in_memory(part: ImageSource) -> Tensor:
    if not isinstance(part, LabelledImages):
        raise NotApplicableError("its images are not in memory")
    return part.images


def _sizes_are_as_known(case: DatasetCase) -> str:
    facts = case.known
    for (name, part), count in zip(case.parts(), (facts.train_images, facts.test_images), strict=True):
        expected = (count, *facts.image_shape)
        require(
            len(part.labels) == count,
            f"{name} has {number_of(len(part.labels), 'label')}, but {count} {are(count)} known",
        )
        shape = tuple(part.shape)
        require(shape == expected, f"{name} images are {shape}, but known as {expected}")
    return ""


def _labels_are_classes(case: DatasetCase) -> str:
    for name, part in case.parts():
        labels = part.labels
        require(labels.dtype == torch.int64, f"{name} labels are {labels.dtype}, not torch.int64")
        require(labels.dim() == 1, f"{name} labels are {tuple(labels.shape)}, not (N,)")
        low, high = int(labels.min()), int(labels.max())
        require(low >= 0, f"{name} has the label {low}")
        if case.facts is not None:
            count = case.facts.classes
            require(
                high < count,
                f"{name} has the label {high}, but {number_of(count, 'class')} {are(count)} known",
            )
    return number_of(_classes(case), "class")


def _every_class_is_in_both_parts(case: DatasetCase) -> str:
    for name, part in case.parts():
        counts = part.labels.bincount(minlength=_classes(case))
        absent = torch.nonzero(counts == 0).flatten().tolist()
        require(not absent, f"{name} has no image of class {', '.join(map(str, absent[:5]))}")
    return ""


def _classes(case: DatasetCase) -> int:
    if case.facts is not None:
        return case.facts.classes
    return 1 + max(int(part.labels.max()) for _, part in case.parts())


def _is_the_same_every_time(case: DatasetCase) -> str:
    if not hasattr(case.splits, "sha256"):
        raise NotApplicableError("has no checksum")
    first, again = case.splits.sha256, case.load().sha256
    require(first == again, f"loading it twice gives other images or labels ({first[:8]}, {again[:8]})")
    return f"sha256 {first[:16]}"


def _no_test_image_is_trained_on(case: DatasetCase) -> str:
    """Count test images among the training images; more than half of the test split is an error.

    A few are only reported, because published data sets contain some.
    """
    train = set(_digests(_in_memory(case.splits.train)))
    test = list(_digests(_in_memory(case.splits.test)))
    shared = [index for index, digest in enumerate(test) if digest in train]
    rule = (
        f"{len(shared)} of {number_of(len(test), 'test image')} {are(len(shared))} among the training images"
    )
    require(2 * len(shared) <= len(test), rule)
    if not shared:
        return "no test image is among the training images"
    first = ", ".join(map(str, shared[:3]))
    images = f"{number_of(len(shared), 'test image')} {are(len(shared))}"
    return f"note: {images} among the training images too (the first: {first})"


def _digests(images: Tensor) -> Iterator[bytes]:
    return (hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images)


def _statistics_are_as_known(case: DatasetCase) -> str:
    """Compare mean and deviation with the declared facts.

    A difference is only reported, because facts may give other values for normalisation on purpose.
    """
    mean, std = _statistics(_sample(case.splits.train))
    measured = f"mean {_rounded(mean)}, std {_rounded(std)}"
    if case.facts is None:
        return measured
    known = (*case.facts.mean, *case.facts.std)
    require(
        len(known) == len(mean) + len(std),
        f"known for {number_of(len(known) // 2, 'channel')}, there {are(len(mean))} {len(mean)}",
    )
    error = max(abs(a - b) for a, b in zip((*mean, *std), known, strict=True))
    if error <= STATISTICS_TOLERANCE:
        return measured
    return f"note: {measured}, but known are {_rounded(case.facts.mean)}, {_rounded(case.facts.std)}"


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1], from a histogram of the bytes."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        share = images[:, channel].flatten().int().bincount(minlength=256).double()
        share = share / share.sum()
        mean = (share * levels).sum()
        means.append(float(mean))
        deviations.append(float((share * (levels - mean).square()).sum().sqrt()))
    return tuple(means), tuple(deviations)


def _rounded(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"


def options_say_what_they_are(case: DatasetCase) -> str:
    """Check that the docstring explains every option."""
    return options_are_explained(DATASETS.options(case.target))


CHECKS: tuple[Check[DatasetCase], ...] = (
    Check("is loaded", _is_loaded, essential=True),
    Check("images are bytes", _images_are_bytes, essential=True),
    Check("sizes are as known", _sizes_are_as_known),
    Check("labels are classes", _labels_are_classes, essential=True),
    Check("every class is in both parts", _every_class_is_in_both_parts),
    Check("is the same every time", _is_the_same_every_time),
    Check("test images are not trained on", _no_test_image_is_trained_on),
    Check("statistics are as known", _statistics_are_as_known),
    Check("options are explained", options_say_what_they_are),
)
