"""What is known of each data set without loading it: classes, channels, size, splits, statistics."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetFacts:
    """A labelled image data set. `mean` and `std` are of the training pixels scaled to [0, 1]."""

    classes: int
    channels: int
    image_size: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_FACTS: Mapping[str, DatasetFacts] = {
    "cifar10": DatasetFacts(
        10, 3, 32, 50_000, 10_000, (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    ),
    "cifar100": DatasetFacts(
        100, 3, 32, 50_000, 10_000, (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
    ),
    "digits": DatasetFacts(10, 1, 8, 1_437, 360, (0.30519,), (0.37580,)),
    "fashion_mnist": DatasetFacts(10, 1, 28, 60_000, 10_000, (0.28604059,), (0.35302424,)),
}


def dataset_facts(name: str, options: Mapping[str, int]) -> DatasetFacts:
    """Return the facts of a data set; `options` are all of its options, defaults included."""
    if name in _FACTS:
        return _FACTS[name]
    channels = options["channels"]
    return DatasetFacts(
        options["classes"],
        channels,
        options["image_size"],
        options["train_images"],
        options["test_images"],
        (0.5,) * channels,
        (0.25,) * channels,
    )
