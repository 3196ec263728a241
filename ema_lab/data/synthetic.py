"""Made-up images that can be learnt: for tests, smoke runs and timing, never for results."""

from pathlib import Path

import torch
from torch import Tensor

from ema_lab.data.images import ImageSplits, LabelledImages
from ema_lab.randomness import hash_counters, hash_indices, integers_below

FACTS = {"mean": 0.5, "std": 0.25}  # the rest are options


def synthetic(
    root: Path,
    *,
    classes: int = 10,
    channels: int = 3,
    image_size: int | list[int] = 32,
    train_images: int = 512,
    test_images: int = 256,
) -> ImageSplits:
    """Noise around one random image per class; the same on every machine.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        image_size: Height and width in pixels: one number, or [height, width].
        train_images: Number of training images.
        test_images: Number of test images.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    shape = (channels, height, width)
    shown = min(classes, max(train_images, test_images))  # a thousand large prototypes fill the memory
    prototypes = _noise("class", shown, shape)

    def part(name: str, count: int) -> LabelledImages:
        labels = torch.arange(count) % classes
        images = (prototypes[labels].int() + _noise(name, count, shape).int()) // 2
        return LabelledImages(images.to(torch.uint8), labels)

    return ImageSplits(part("train", train_images), part("test", test_images))


def _noise(purpose: str, count: int, shape: tuple[int, int, int]) -> Tensor:
    total = count * shape[0] * shape[1] * shape[2]
    bits = hash_indices(hash_counters("synthetic images", purpose), torch.arange(total))
    return integers_below(bits, 256).to(torch.uint8).reshape(count, *shape)
