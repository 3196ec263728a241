"""Contract of detection data sets: the rules on which loading, training and evaluation of boxes rely."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ema_lab.contract.check import Check, require
from ema_lab.contract.dataset import DatasetCase, options_say_what_they_are
from ema_lab.data.detection.scenes import SceneSource, SceneSplits, Truth
from ema_lab.wording import are, number_of

SAMPLE = 256  # images whose pixels are read


@dataclass(frozen=True)
class SceneCase(DatasetCase):
    """Detection data set under check."""

    @property
    def scenes(self) -> SceneSplits:
        """The splits that the function returns."""
        splits: object = self.splits
        require(isinstance(splits, SceneSplits), f"returns a {type(splits).__name__}, not SceneSplits")
        assert isinstance(splits, SceneSplits)
        return splits

    def sources(self) -> Iterator[tuple[str, SceneSource]]:
        """Yield the name and the images of the training and of the test split."""
        yield "train", self.scenes.train
        yield "test", self.scenes.test


def _is_loaded(case: SceneCase) -> str:
    for name, part in case.sources():
        require(isinstance(part, SceneSource), f"{name} is a {type(part).__name__}, no source of scenes")
    return f"{len(case.scenes.train):,} training and {number_of(len(case.scenes.test), 'test image')}"


def _images_are_bytes(case: SceneCase) -> str:
    for name, part in case.sources():
        for index in range(0, len(part), max(1, len(part) // SAMPLE)):
            pixels = part.pixels(index)
            where = f"{name} image {part.name(index)}"
            require(pixels.dtype == torch.uint8, f"{where} is {pixels.dtype}, not torch.uint8")
            shape = tuple(pixels.shape)
            require(shape == (3, *part.size(index)), f"{where} is {shape}, its size {part.size(index)}")
    return ""


def _sizes_are_as_known(case: SceneCase) -> str:
    facts = case.known
    counts = (facts.train_images, facts.test_images)
    for (name, part), expected in zip(case.sources(), counts, strict=True):
        require(
            len(part) == expected,
            f"{name} has {number_of(len(part), 'image')}, but {expected} {are(expected)} known",
        )
    count = len(case.scenes.names)
    require(
        count == facts.classes,
        f"has {number_of(count, 'name')}, but {number_of(facts.classes, 'class')} {are(facts.classes)} known",
    )
    return number_of(count, "class")


def _boxes_fit(case: SceneCase) -> str:
    total = 0
    for name, part in case.sources():
        for index in range(len(part)):
            truth = part.truth(index)
            problem = _problem(truth, part.size(index), len(case.scenes.names))
            require(not problem, f"{name} image {part.name(index)}: {problem}")
            total += len(truth.boxes)
    return number_of(total, "box")


def _problem(truth: Truth, size: tuple[int, int], classes: int) -> str:
    if truth.boxes.shape != (len(truth.classes), 4) or truth.ignored.shape != truth.classes.shape:
        return f"{truth.boxes.shape} boxes, {truth.classes.shape} classes, {truth.ignored.shape} marks"
    low, high = truth.boxes[:, :2], truth.boxes[:, 2:]
    if not np.isfinite(truth.boxes).all() or not (high > low).all():
        return "a box is not finite, or has no width or height"
    if not ((low >= 0).all() and (high <= np.array(size[::-1])).all()):
        return f"a box leaves the image of {size[1]} x {size[0]}"
    if not ((truth.classes >= 0) & (truth.classes < classes)).all():
        return f"a class is not from 0 to {classes - 1}"
    return ""


def _every_class_is_in_both_parts(case: SceneCase) -> str:
    for name, part in case.sources():
        present = {int(cls) for index in range(len(part)) for cls in part.truth(index).trained().classes}
        absent = [label for number, label in enumerate(case.scenes.names) if number not in present]
        require(not absent, f"{name} has no box of class {', '.join(absent[:5])}")
    return ""


def _is_the_same_every_time(case: SceneCase) -> str:
    again: object = case.load()
    require(isinstance(again, SceneSplits), "is something else when it is loaded again")
    assert isinstance(again, SceneSplits)
    first, second = case.scenes.sha256, again.sha256
    require(first == second, f"loading it twice gives other images or boxes ({first[:8]}, {second[:8]})")
    return f"sha256 {first[:16]}"


CHECKS: tuple[Check[SceneCase], ...] = (
    Check("is loaded", _is_loaded, essential=True),
    Check("images are bytes", _images_are_bytes, essential=True),
    Check("sizes are as known", _sizes_are_as_known),
    Check("boxes fit", _boxes_fit, essential=True),
    Check("every class is in both parts", _every_class_is_in_both_parts),
    Check("is the same every time", _is_the_same_every_time),
    Check("options are explained", options_say_what_they_are),
)
