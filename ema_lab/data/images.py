"""Labelled images in memory, and how they are split."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ema_lab.randomness import hash_counters, hash_indices


@dataclass(frozen=True)
class LabelledImages:
    """Images as uint8 (N, C, H, W) and labels as int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSplits:
    """A data set as it is published: its training and its test images."""

    train: LabelledImages
    test: LabelledImages

    @cached_property
    def sha256(self) -> str:
        """A checksum of every pixel and label, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(str(tuple(part.images.shape)).encode())
            digest.update(part.images.contiguous().numpy().tobytes())
            digest.update(part.labels.numpy().tobytes())
        return digest.hexdigest()


def stratified_choice(labels: Tensor, count: int, *parts: int | str) -> Tensor:
    """Choose `count` indices with every class in its share; return a mask over `labels`.

    Which images are taken depends on the parts alone. Shares that are no whole numbers are rounded
    by the largest remainder, ties going to the lower class.
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
