"""Images with boxes, wherever they come from, and how they are split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ema_lab.data.detection.geometry import Floats, Size


def _no_boxes() -> Floats:
    return np.zeros((0, 4))


@dataclass(frozen=True)
class Truth:
    """The boxes of one image, as corners in pixels.

    Attributes:
        boxes: (N, 4).
        classes: (N,), from 0.
        ignored: (N,), whether a box is neither trained on nor evaluated, such as a crowd.
        regions: (R, 4), parts of the image without annotations.
    """

    boxes: Floats
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    regions: Floats = field(default_factory=_no_boxes)

    @classmethod
    def of(
        cls,
        boxes: Sequence[Sequence[float]] | Floats,
        classes: Sequence[int] | NDArray[np.int64],
        ignored: Sequence[bool] | None = None,
        regions: Sequence[Sequence[float]] = (),
    ) -> "Truth":
        """Build a truth from plain lists."""
        kinds = np.asarray(classes, dtype=np.int64).reshape(-1)
        is_ignored = np.zeros(len(kinds), dtype=bool) if ignored is None else np.asarray(ignored, dtype=bool)
        corners, blank = (np.asarray(found, dtype=np.float64).reshape(-1, 4) for found in (boxes, regions))
        return cls(corners, kinds, is_ignored, blank)

    def trained(self) -> "Truth":
        """Return the boxes that training learns."""
        kept = ~self.ignored
        return Truth(self.boxes[kept], self.classes[kept], self.ignored[kept], self.regions)


@runtime_checkable
class SceneSource(Protocol):
    """One split of a detection data set: images of any size and their boxes."""

    def __len__(self) -> int:
        """Return the number of images."""

    def pixels(self, index: int) -> Tensor:
        """Return an image, uint8 (3, H, W)."""

    def size(self, index: int) -> Size:
        """Return an image's height and width, if possible without decoding the image."""

    def truth(self, index: int) -> Truth:
        """Return an image's boxes."""

    def name(self, index: int) -> str:
        """Return the name of an image, for messages and files of predictions."""

    def content(self) -> Iterator[bytes]:
        """Yield the bytes that identify the images and boxes, for a checksum."""


@dataclass(frozen=True)
class ScenesInMemory:
    """Images that are held in memory: uint8 (3, H, W) each."""

    images: Sequence[Tensor]
    truths: Sequence[Truth]
    prefix: str = "image"

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: int) -> Tensor:
        return self.images[index]

    def size(self, index: int) -> Size:
        height, width = self.images[index].shape[1:]
        return height, width

    def truth(self, index: int) -> Truth:
        return self.truths[index]

    def name(self, index: int) -> str:
        return f"{self.prefix}_{index:05d}"

    def content(self) -> Iterator[bytes]:
        for image, truth in zip(self.images, self.truths, strict=True):
            yield str(tuple(image.shape)).encode()
            yield image.contiguous().numpy().tobytes()
            yield from truth_bytes(truth)


@dataclass(frozen=True)
class SceneSplits:
    """Detection data set as published: training images, test images and names of the classes."""

    train: SceneSource
    test: SceneSource
    names: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Checksum of the content of both splits and of the class names, in order."""
        digest = hashlib.sha256("\0".join(self.names).encode())
        for part in (self.train, self.test):
            for piece in part.content():
                digest.update(piece)
        return digest.hexdigest()


def truth_bytes(truth: Truth) -> Iterator[bytes]:
    """Yield the bytes that identify the boxes of an image, for a checksum."""
    for part in (truth.boxes, truth.classes, truth.ignored, truth.regions):
        yield np.ascontiguousarray(part).tobytes()


def split_scenes(count: int, held_out: int, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices, in order, of training and validation images; `bits` (N,) decide which."""
    order = torch.argsort(bits, stable=True)
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[:held_out]] = True
    every = torch.arange(count)
    return every[~mask], every[mask]
