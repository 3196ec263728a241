"""Made-up scenes that can be learnt: bright squares on noise, for tests, smoke runs and timing."""

from pathlib import Path

import torch

from ema_lab.data.detection.scenes import ScenesInMemory, SceneSplits, Truth
from ema_lab.randomness import hash_counters, hash_indices, integers_below

FACTS = {
    "task": "detection",
    "channels": 3,
    "image_size": 64,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}
SIDE = 64
SHOWN = 3  # squares of an image, at most


def synthetic_scenes(
    root: Path, *, classes: int = 2, train_images: int = 64, test_images: int = 32
) -> SceneSplits:
    """One to three squares in the colour of their class, in images of 64 x 64; the same on every machine.

    Args:
        root: Not used.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
    """
    names = tuple(f"square {number}" for number in range(classes))
    train, test = (
        _part(name, count, classes) for name, count in (("train", train_images), ("test", test_images))
    )
    return SceneSplits(train, test, names)


def _part(split: str, count: int, classes: int) -> ScenesInMemory:
    images, truths = [], []
    for number in range(count):
        key = hash_counters("synthetic scenes", split, number)
        pixels = integers_below(hash_indices(key, torch.arange(3 * SIDE * SIDE)), 96)
        image = pixels.to(torch.uint8).reshape(3, SIDE, SIDE)
        boxes, kinds = [], []
        for place in range(1 + number % SHOWN):
            left, top, wide, high = (
                hash_counters("synthetic square", split, number, place, axis) % (32 if axis < 2 else 20)
                for axis in range(4)
            )
            cls = (number + place) % classes
            box = (left, top, left + wide + 10, top + high + 10)
            colour = [96 + hash_counters("square colour", cls, channel) % 160 for channel in range(3)]
            image[:, box[1] : box[3], box[0] : box[2]] = torch.tensor(colour, dtype=torch.uint8)[
                :, None, None
            ]
            boxes.append(box)
            kinds.append(cls)
        images.append(image)
        truths.append(Truth.of(boxes, kinds))
    return ScenesInMemory(images, truths, split)
