"""Batches of images in memory, made on the device of the model: the same pixels as `batches.Images` gives.

A step then copies nothing from the host. Order, crops and flips are integer hashes, the same on every device.

Shape letters: N images, B batch, C channels, H rows, W columns.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ema_lab.data.batches import Batch, OrderedBatches, ShuffledBatches
from ema_lab.data.images import LabelledImages
from ema_lab.randomness import hash_counters, hash_indices, integers_below
from ema_lab.specs.augment import AugmentSpec

MEMORY_SHARE = 8  # images take at most this part of a GPU's memory


class DeviceBatches:
    """Batches of an epoch on a device: images uint8 (B, C, H, W), labels (B,), indices (B,).

    Args:
        source: The images, on the device.
        batches: Indices of each batch.
        augment: Augmentation, padded crops and flips alone; None for evaluation.
        seed: The run's seed.

    Attributes:
        batch_sampler: The indices of each batch; Lightning sets its epoch.
    """

    def __init__(
        self,
        source: LabelledImages,
        batches: ShuffledBatches | OrderedBatches,
        augment: AugmentSpec | None,
        seed: int,
    ) -> None:
        if augment is not None and augment.needs_a_loader:
            raise ValueError("only padded crops and flips are made on the device, the rest by a loader")
        self.batch_sampler = batches
        self._images = source.images
        self._labels = source.labels
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        for epoch, indices in self.batch_sampler.on(self._images.device):
            yield self._pixels(indices, epoch), self._labels[indices], indices

    def _pixels(self, indices: Tensor, epoch: int) -> Tensor:
        if self._augment is None:
            return self._images[indices]
        return augmented_images(self._images, indices, self._augment, self._seed, epoch)


def fits(source: LabelledImages, device: torch.device) -> bool:
    """Return whether images may be kept on a device; the memory of the CPU has them already."""
    if device.type == "cpu":
        return True
    memory = torch.cuda.get_device_properties(device).total_memory
    return source.images.nbytes * MEMORY_SHARE <= memory


def augmented_images(
    images_NCHW: Tensor, indices_B: Tensor, spec: AugmentSpec, seed: int, epoch: int
) -> Tensor:
    """Take images out of uint8 (N, C, H, W), cropped and flipped as by `augmented`, in one gather.

    Args:
        images_NCHW: All images.
        indices_B: Indices of the batch's images, int64, on the images' device.
        spec: The augmentation.
        seed: The run's seed.
        epoch: Number of the epoch, from 0.
    """
    if not spec.crop_padding and not spec.flip:
        return images_NCHW[indices_B]
    height, width = images_NCHW.shape[2:]
    rows_BH = torch.arange(height, device=indices_B.device)[None]
    columns_BW = torch.arange(width, device=indices_B.device)[None]

    def drawn(purpose: str, limit: int) -> Tensor:
        bits = hash_indices(hash_counters(seed, "augmentation", purpose, epoch), indices_B)
        return integers_below(bits, limit)[:, None]

    if spec.flip:
        columns_BW = torch.where(drawn("flip", 2).bool(), width - 1 - columns_BW, columns_BW)
    if not spec.crop_padding:
        position_BHW = rows_BH[:, :, None] * width + columns_BW[:, None, :]
        return _gathered(images_NCHW, indices_B, position_BHW)
    limit = 2 * spec.crop_padding + 1
    rows_BH = rows_BH + (drawn("crop row", limit) - spec.crop_padding)
    columns_BW = columns_BW + (drawn("crop column", limit) - spec.crop_padding)
    is_inside_BHW = ((rows_BH >= 0) & (rows_BH < height))[:, :, None] & (
        (columns_BW >= 0) & (columns_BW < width)
    )[:, None, :]
    position_BHW = (
        rows_BH.clamp(0, height - 1)[:, :, None] * width + columns_BW.clamp(0, width - 1)[:, None, :]
    )
    return _gathered(images_NCHW, indices_B, position_BHW) * is_inside_BHW[:, None]


def _gathered(images_NCHW: Tensor, indices_B: Tensor, position_BHW: Tensor) -> Tensor:
    """Return pixels by their position in each image's rows: (B, C, H, W)."""
    channels, height, width = images_NCHW.shape[1:]
    index_BCL = position_BHW.reshape(len(position_BHW), 1, -1).expand(len(indices_B), channels, -1)
    taken_BCL = images_NCHW.flatten(2)[indices_B].gather(2, index_BCL)
    return taken_BCL.reshape(len(indices_B), channels, height, width)
