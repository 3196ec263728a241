"""Labelled images, in memory or elsewhere, and stratified splits."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ema_lab.data.augmentation import RandomCrop, resized_crops
from ema_lab.errors import DataError
from ema_lab.randomness import hash_counters, hash_indices


@runtime_checkable
class ImageSource(Protocol):
    """Split of a data set: N labelled images of C x H x W, from memory or files.

    An image's pixels depend on its index and crop alone, so loader workers need no shared state.
    """

    @property
    def labels(self) -> Tensor:
        """Labels, int64 (N,)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def whole(self, indices_B: Tensor) -> Tensor:
        """Return images without a random crop, as evaluation uses them: uint8 (B, C, H, W)."""

    def cropped(self, indices_B: Tensor, crops: Sequence[RandomCrop]) -> Tensor:
        """Return each image's random crop, resized to H x W: uint8 (B, C, H, W)."""

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify the images and labels, for a checksum."""


@dataclass(frozen=True)
class LabelledImages:
    """Images in memory as uint8 (N, C, H, W) and labels as int64 (N,)."""

    images: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape)

    def to(self, device: torch.device) -> "LabelledImages":
        """Return the images and labels on a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def whole(self, indices_B: Tensor) -> Tensor:
        return self.images[indices_B]

    def cropped(self, indices_B: Tensor, crops: Sequence[RandomCrop]) -> Tensor:
        height, width = self.images.shape[2:]
        return resized_crops(self.images[indices_B], [crop.box(height, width) for crop in crops])

    def content(self) -> Iterator[bytes]:
        """Yield the shape, every pixel and every label, in order."""
        yield str(self.shape).encode()
        yield self.images.contiguous().numpy().tobytes()
        yield self.labels.numpy().tobytes()


@dataclass(frozen=True)
class ImageSplits:
    """Published splits of a data set: training and test images."""

    train: ImageSource
    test: ImageSource

    def checked(self, sha256: str) -> "ImageSplits":
        """Return the splits if they have a checksum.

        Raises:
            DataError: If they have another one.
        """
        if self.sha256 != sha256:
            rule = "its files changed (name, size or label) after its facts were measured; measure them again"
            raise DataError(f"the data set has the checksum {self.sha256[:12]}, not {sha256[:12]}: {rule}")
        return self

    @cached_property
    def sha256(self) -> str:
        """Checksum of the content of both splits, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            for piece in part.content():
                digest.update(piece)
        return digest.hexdigest()


def stratified_choice(labels: Tensor, count: int, *parts: int | str) -> Tensor:
    """Choose `count` images, each class in proportion to its size; return a bool mask (N,) over `labels`.

    The choice depends on `parts` alone. Fractional shares are rounded by largest remainder; ties go to the
    lower class.

    Args:
        labels: Class of each image, int64 (N,).
        count: Number of images to choose.
        parts: Seeds and purpose, as for `hash_counters`.
    """
    classes, sizes = labels.unique(return_counts=True)
    shares = sizes * count / len(labels)
    quota = shares.floor().long()
    order = torch.argsort(shares - quota, descending=True, stable=True)
    quota[order[: count - int(quota.sum())]] += 1
    bits = hash_indices(hash_counters(*parts), torch.arange(len(labels)))
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in zip(classes, quota, strict=True):
        members = torch.nonzero(labels == label).flatten()
        chosen[members[torch.argsort(bits[members], stable=True)[:number]]] = True
    return chosen
