"""A small data set that breaks the rule of the contract that its option names."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ema_lab.data.images import ImageSplits, LabelledImages
from ema_lab.data.synthetic import synthetic

FACTS = {
    "classes": 3,
    "channels": 2,
    "image_size": 4,
    "train_images": 30,
    "test_images": 9,
    "mean": [0.5, 0.5],
    "std": [0.25, 0.25],
}


class InFiles:
    """Images that are read when they are asked for."""

    def __init__(self, source: LabelledImages) -> None:
        self.source = source
        self.labels = source.labels
        self.shape = source.shape

    def whole(self, indices_B: Tensor) -> Tensor:
        return self.source.whole(indices_B)

    def cropped(self, indices_B: Tensor, crops: Any) -> Tensor:
        return self.source.cropped(indices_B, crops)

    def content(self) -> Iterator[bytes]:
        return self.source.content()


class FloatCrops(InFiles):
    """Images whose random crops are numbers from 0 to 1."""

    def cropped(self, indices_B: Tensor, crops: Any) -> Tensor:
        return self.source.cropped(indices_B, crops) / 255


def build(root: Path, *, flaw: str = "") -> Any:
    """Images whose facts are known.

    Args:
        root: Folder of the data sets.
        flaw: What is wrong with it.
    """
    if flaw == "absent":
        raise FileNotFoundError(f"{root / 'images.bin'} is not there")
    if flaw == "nothing":
        return None
    made = synthetic(root, classes=3, channels=2, image_size=4, train_images=30, test_images=9)
    images, labels = made.train.images.clone(), made.train.labels.clone()
    if flaw == "floats":
        images = images / 255
    if flaw == "one more":
        images, labels = torch.cat([images, images[:1]]), torch.cat([labels, labels[:1]])
    if flaw == "high label":
        labels[0] = 3
    if flaw == "negative label":
        labels[0] = -1
    if flaw == "small labels":
        labels = labels.int()
    if flaw == "class absent":
        labels[labels == 1] = 0
    if flaw == "other images":
        images[0, 0, 0, 0] = random.randrange(256)
        images[0, 0, 0, 1] = random.randrange(256)
        images[0, 0, 0, 2] = random.randrange(256)
    if flaw == "duplicates":
        images[:2] = made.test.images[3:5]
    if flaw == "float crops":
        return ImageSplits(FloatCrops(made.train), InFiles(made.test))
    if flaw == "in files":
        return ImageSplits(InFiles(made.train), InFiles(made.test))
    return ImageSplits(LabelledImages(images, labels), made.test)


def mute(root: Path, *, flaw: str = "") -> Any:
    """A data set that does not say what its option means."""
    return build(root, flaw=flaw)
