"""A small data set that breaks the rule of the contract that its option names."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ema_lab.data.images import ImageSplits, LabelledImages
from ema_lab.data.synthetic import synthetic


class InFiles:
    """Labels alone: the images would be read when they are asked for."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)


def known(
    root: Path,
    *,
    classes: int = 3,
    channels: int = 2,
    image_size: int = 4,
    train_images: int = 30,
    test_images: int = 9,
    flaw: str = "",
) -> Any:
    """Images whose facts follow from the options.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        image_size: Height and width in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        flaw: What is wrong with it.
    """
    return build(root, flaw=flaw)


def build(root: Path, *, flaw: str = "") -> Any:
    """Images of which nothing is known before they are loaded.

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
    if flaw == "in files":
        return SimpleNamespace(train=InFiles(made.train.labels), test=InFiles(made.test.labels))
    return ImageSplits(LabelledImages(images, labels), made.test)


def mute(root: Path, *, flaw: str = "") -> Any:
    """A data set that does not say what its option means."""
    return build(root, flaw=flaw)
