"""scikit-learn's real handwritten digits on its two photographs: exact boxes, ten classes, no download.

Training scenes show training digits of the data set `digits` on the left three fifths of the photographs,
test scenes show test digits on the right two fifths.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from ema_lab.data.detection.scenes import ScenesInMemory, SceneSplits, Truth
from ema_lab.data.digits import digits
from ema_lab.data.images import LabelledImages
from ema_lab.randomness import hash_counters

FACTS = {
    "task": "detection",
    "classes": 10,
    "channels": 3,
    "image_size": 96,
    "train_images": 600,
    "test_images": 200,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}
MOST_DIGITS = 6
SIDES = (20, 44)  # of a digit, in pixels of a scene of 96
LEFT_SHARE = 0.6
_TRIES = 20
_MOST_OVERLAP = 0.1  # of the smaller box, so that every digit can be read


def digit_scenes(
    root: Path, *, image_size: int = 96, train_images: int = 600, test_images: int = 200
) -> SceneSplits:
    """Photographs with one to six digits of 20 to 44 pixels; the same on every machine.

    Args:
        root: Not used: nothing is downloaded.
        image_size: Height and width of a scene; digits keep their share of it.
        train_images: Number of training scenes.
        test_images: Number of test scenes.
    """
    splits = digits(root)
    assert isinstance(splits.train, LabelledImages)
    assert isinstance(splits.test, LabelledImages)
    photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    cuts = [round(photograph.shape[2] * LEFT_SHARE) for photograph in photographs]
    left = [photograph[:, :, :cut] for photograph, cut in zip(photographs, cuts, strict=True)]
    right = [photograph[:, :, cut:] for photograph, cut in zip(photographs, cuts, strict=True)]
    train = _scenes("train", train_images, image_size, splits.train, left)
    test = _scenes("test", test_images, image_size, splits.test, right)
    return SceneSplits(train, test, tuple(str(number) for number in range(10)))


def _scenes(
    split: str, count: int, image_size: int, digits: LabelledImages, backgrounds: list[Tensor]
) -> ScenesInMemory:
    scenes = [_Scene(split, number, image_size, digits, backgrounds) for number in range(count)]
    return ScenesInMemory([scene.pixels for scene in scenes], [scene.truth for scene in scenes], split)


class _Scene:
    """One scene: its background, then its digits, one after the other."""

    def __init__(
        self, split: str, number: int, image_size: int, digits: LabelledImages, backgrounds: list[Tensor]
    ) -> None:
        self._key = ("digit scenes", split, number)
        self.pixels = self._background(backgrounds, image_size)
        boxes: list[tuple[float, float, float, float]] = []
        classes: list[int] = []
        for place in range(1 + self._below(MOST_DIGITS, "digits")):
            which = self._below(len(digits.labels), "digit", place)
            box = self._place(image_size, boxes, place)
            if box is not None:
                boxes.append(self._draw(digits.images[which], box, place))
                classes.append(int(digits.labels[which]))
        self.truth = Truth.of(boxes, classes)

    def _below(self, limit: int, *purpose: int | str) -> int:
        return (hash_counters(*self._key, *purpose) >> 33) * limit >> 31

    def _share(self, *purpose: int | str) -> float:
        return (hash_counters(*self._key, *purpose) >> 32) * 2.0**-32

    def _background(self, backgrounds: list[Tensor], image_size: int) -> Tensor:
        image = backgrounds[self._below(len(backgrounds), "photograph")]
        side = int(image_size * (1 + self._share("zoom")))
        side = min(side, *image.shape[1:])
        top, left = (self._below(image.shape[axis] - side + 1, "background", axis) for axis in (1, 2))
        part = image[:, top : top + side, left : left + side]
        resized: Tensor = vision.resize(part, [image_size, image_size], antialias=True)
        return resized.clone()

    def _place(
        self, image_size: int, taken: list[tuple[float, float, float, float]], place: int
    ) -> tuple[int, int, int] | None:
        """Return row, column and side of a digit that covers no other; None if no try finds a place."""
        low, high = (side * image_size / 96 for side in SIDES)
        for attempt in range(_TRIES):
            side = round(low + (high - low) * self._share("side", place, attempt))
            row, column = (
                self._below(image_size - side + 1, axis, place, attempt) for axis in ("row", "column")
            )
            if all(_covered((column, row, column + side, row + side), box) <= _MOST_OVERLAP for box in taken):
                return row, column, side
        return None

    def _draw(
        self, digit: Tensor, box: tuple[int, int, int], place: int
    ) -> tuple[float, float, float, float]:
        """Blend a digit's strokes into the scene in a colour; return the bounds of its strokes."""
        row, column, side = box
        large = ((vision.resize(digit, [side, side])[0].float() / 255 - 0.25) * 2).clamp(0, 1)
        colour = torch.tensor([self._below(256, "colour", channel, place) for channel in range(3)])
        part = self.pixels[:, row : row + side, column : column + side]
        bright = part.float().mean() > 110
        colour = colour * 0.25 if bright else 190 + colour * 0.25  # strokes stand out from what is behind
        blended = part.float() * (1 - large) + colour[:, None, None] * large
        part.copy_(blended.round().clamp(0, 255).to(torch.uint8))
        strokes = np.argwhere(large.numpy() > 0.2)
        (top, left), (bottom, right) = strokes.min(0), strokes.max(0) + 1
        return column + left, row + top, column + right, row + bottom


def _covered(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Return the share of the smaller box that the other covers."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0) * max(height, 0) / min(areas)
