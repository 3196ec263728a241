"""Loading of a data set by its spec, cached per process."""

import json
from functools import lru_cache
from pathlib import Path

import torch

from ema_lab.data.images import ImageSource, ImageSplits, LabelledImages
from ema_lab.errors import AbsentDataError, DataError, EmaLabError
from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.run import DataSpec


def load_splits(spec: DataSpec, root: Path) -> ImageSplits:
    """Return the splits of a data set; download missing files into `root`.

    Raises:
        DataError: If the data cannot be loaded or downloaded, or does not match its facts.
    """
    splits, name, facts = build_dataset(spec, root), spec.name, spec.facts
    if not isinstance(splits, ImageSplits):
        expected = f"{ImageSplits.__module__}.{ImageSplits.__name__}"
        raise DataError(f"{name} returned a {type(splits).__name__}, not {expected}")
    _check(name, splits.train, facts.train_images, facts)
    _check(name, splits.test, facts.test_images, facts)
    return splits


def build_dataset(spec: DataSpec, root: Path) -> object:
    """Return the result of a data set's code, unchecked.

    Raises:
        DataError: If it fails.
    """
    return _build(spec.name, json.dumps(dict(spec.options), sort_keys=True), root)


@lru_cache(maxsize=2)
def _build(name: str, options: str, root: Path) -> object:
    try:
        splits: object = DATASETS.build(name, root, **json.loads(options))
    except EmaLabError:
        raise
    except Exception as error:  # a user's own data set may raise anything
        if DATASETS[name].target.startswith("ema_lab."):
            raise
        kind = AbsentDataError if isinstance(error, FileNotFoundError) else DataError
        raise kind(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    return splits


def _check(name: str, part: object, count: int, facts: DatasetFacts) -> None:
    """Refuse a split whose images do not match the facts; the task checks the targets."""
    if not isinstance(part, ImageSource):
        raise DataError(f"{name}: expected splits such as LabelledImages of tensors, found {part!r:.60}")
    size = (count, *facts.image_shape)
    if part.shape != size:
        raise DataError(
            f"{name}: expected images of shape {size}, found {part.shape}{_hint(name, count, part)}"
        )
    if isinstance(part, LabelledImages) and part.images.dtype != torch.uint8:
        raise DataError(f"{name}: expected images of type torch.uint8, found {part.images.dtype}")


def _hint(name: str, count: int, part: ImageSource) -> str:
    """Return how to give the number of images, if it is an option of the data set and not as given."""
    if part.shape[0] == count or "train_images" not in DATASETS.options(name):
        return ""
    return (
        "; the numbers of your own set are options: data.classes, data.train_images and data.test_images; or "
        "measure it: ema-lab new dataset NAME --from FOLDER"
    )
