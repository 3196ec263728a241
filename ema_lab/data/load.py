"""Loading a data set by its spec, once per process."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ema_lab.catalogue import DATASETS
from ema_lab.data.images import ImageSplits
from ema_lab.errors import DataError
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.run import DataSpec


def load_splits(spec: DataSpec, root: Path) -> ImageSplits:
    """Return the images of a data set, downloaded into `root` where they are not there yet.

    Raises:
        DataError: If they cannot be had, or are not what the facts say.
    """
    return _load(spec.name, tuple(sorted(spec.options.items())), root, spec.facts)


@lru_cache(maxsize=2)
def _load(name: str, options: tuple[tuple[str, Any], ...], root: Path, facts: DatasetFacts) -> ImageSplits:
    splits: ImageSplits = DATASETS.build(name, root, **dict(options))
    for part, expected in ((splits.train, facts.train_images), (splits.test, facts.test_images)):
        size = (expected, facts.channels, facts.image_size, facts.image_size)
        if tuple(part.images.shape) != size:
            raise DataError(f"{name}: expected images of shape {size}, found {tuple(part.images.shape)}")
    return splits
