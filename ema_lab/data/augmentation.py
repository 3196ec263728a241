"""Augmentation of training images by counter-based randomness: (seed, epoch, index) decides the pixels.

An image therefore gets the same pixels in every batch, in any order, and on every device.

Shape letters: B batch, C channels, H rows, W columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ema_lab.randomness import hash_counters, hash_indices, hash_keys, integers_below, uniforms
from ema_lab.specs.augment import AugmentSpec

LARGE_BYTES = 2**15  # of an image that is flipped alone, at the cost of a call for each
CROP_TRIES = 10
CROP_ASPECTS = (3 / 4, 4 / 3)
Box = tuple[int, int, int, int]  # top, left, height, width


def augmented(
    images_BCHW: Tensor,
    indices_B: Tensor,
    spec: AugmentSpec,
    seed: int,
    epoch: int,
    *,
    in_place: bool = False,
) -> Tensor:
    """Augment uint8 images (B, C, H, W) for one epoch: crop from a zero-padded border, then flip.

    The image source has applied the random resized crop before: see `random_crops()`. Changes of single
    images (`appearance`) and mixtures (`mixing`) come after.

    Args:
        images_BCHW: The images.
        indices_B: Index of each image in the data set, int64.
        spec: The augmentation.
        seed: The run's seed.
        epoch: Number of the epoch, from 0.
        in_place: Whether `images_BCHW` may be changed, which saves a copy.
    """

    def bits(purpose: str) -> Tensor:
        return hash_indices(hash_counters(seed, "augmentation", purpose, epoch), indices_B)

    if spec.crop_padding:
        limit = 2 * spec.crop_padding + 1
        rows, columns = integers_below(bits("crop row"), limit), integers_below(bits("crop column"), limit)
        images_BCHW = crops(images_BCHW, spec.crop_padding, rows, columns)
    if spec.flip:
        mirror = integers_below(bits("flip"), 2).bool()
        images_BCHW = _mirrored(images_BCHW, mirror, in_place=in_place or spec.crop_padding > 0)
    return images_BCHW


def _mirrored(images_BCHW: Tensor, mirror_B: Tensor, *, in_place: bool) -> Tensor:
    """Flip some images horizontally."""
    if images_BCHW.device.type != "cpu":  # without a wait for the device, which has to count the images first
        return torch.where(mirror_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)
    if not in_place:
        images_BCHW = images_BCHW.clone()
    chosen = mirror_B.nonzero()[:, 0]
    if images_BCHW[:1].nbytes < LARGE_BYTES:
        images_BCHW[chosen] = images_BCHW[chosen].flip(3)
        return images_BCHW
    for index in chosen.tolist():  # one image at a time stays in the processor's cache
        images_BCHW[index] = images_BCHW[index].flip(2)
    return images_BCHW


def crops(images_BCHW: Tensor, padding: int, rows_B: Tensor, columns_B: Tensor) -> Tensor:
    """Cut H x W out of each zero-padded image, from the image's own first row and column."""
    batch, channels, height, width = images_BCHW.shape
    padded = F.pad(images_BCHW, (padding,) * 4)
    rows_BH = rows_B[:, None] + torch.arange(height, device=rows_B.device)
    columns_BW = columns_B[:, None] + torch.arange(width, device=columns_B.device)
    index_BHW = rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]
    index_BCL = index_BHW.reshape(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index_BCL).reshape(batch, channels, height, width)


@dataclass(frozen=True)
class RandomCrop:
    """Random crop of one image: a share of its area, an aspect ratio from 3/4 to 4/3, and a position.

    Attributes:
        area: Least and greatest share of the image's area.
        tries: Four numbers in [0, 1) per try: for area, aspect ratio, row and column.
    """

    area: tuple[float, float]
    tries: Sequence[Sequence[float]]

    def box(self, height: int, width: int) -> Box:
        """Return the crop box of an image of this size: the first try that fits, else the middle.

        The distribution is that of torchvision's RandomResizedCrop (Szegedy et al., arXiv:1409.4842). The
        area is uniform, the aspect ratio log-uniform. If no try fits, the box is the largest central one
        with an allowed aspect ratio. Python floats, one image at a time, give the same box in every batch.
        """
        least, greatest = self.area
        low, high = map(math.log, CROP_ASPECTS)
        for area, aspect, row, column in self.tries:
            pixels = height * width * (least + (greatest - least) * area)
            ratio = math.exp(low + (high - low) * aspect)
            rows, columns = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                return int(row * (height - rows + 1)), int(column * (width - columns + 1)), rows, columns
        rows = min(height, round(width / CROP_ASPECTS[0]))
        columns = min(width, round(height * CROP_ASPECTS[1]))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


def random_crops(indices_B: Tensor, area: tuple[float, float], seed: int, epoch: int) -> list[RandomCrop]:
    """Return the random crop of each image in an epoch."""
    purposes = ("area", "aspect", "row", "column")
    keys = [
        hash_counters(seed, "augmentation", f"resized crop {purpose}", epoch, number)
        for number in range(CROP_TRIES)
        for purpose in purposes
    ]
    draws = uniforms(hash_indices(hash_keys(keys), indices_B[:, None]))
    tries = draws.reshape(len(indices_B), CROP_TRIES, len(purposes)).tolist()
    return [RandomCrop(area, image) for image in tries]


def resized_crops(images_BCHW: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Crop each uint8 image (B, C, H, W) to its box and enlarge it bilinearly to H x W.

    A box is never larger than its image, so the resize never shrinks and needs no antialiasing filter.
    """
    height, width = images_BCHW.shape[2:]
    top_B, left_B, rows_B, columns_B = torch.tensor(boxes).unbind(1)
    pixels = _enlarged(images_BCHW.float(), top_B, rows_B, height, dim=2)
    return _enlarged(pixels, left_B, columns_B, width, dim=3).round().to(torch.uint8)


def _enlarged(images_BCHW: Tensor, start_B: Tensor, length_B: Tensor, size: int, *, dim: int) -> Tensor:
    """Enlarge a part of each image to `size` pixels along one dimension."""
    centre_BL = (torch.arange(size) + 0.5) * (length_B[:, None] / size) - 0.5
    centre_BL = torch.minimum(centre_BL.clamp(min=0), length_B[:, None] - 1)
    before_BL = centre_BL.floor()
    after_BL = torch.minimum(before_BL + 1, length_B[:, None] - 1)
    shape = [len(start_B), 1, 1, 1]
    shape[dim] = size

    def gathered(index_BL: Tensor) -> Tensor:
        index = (start_B[:, None] + index_BL.long()).reshape(shape)
        sizes = [*images_BCHW.shape]
        sizes[dim] = size
        return images_BCHW.gather(dim, index.expand(sizes))

    share = (centre_BL - before_BL).reshape(shape)
    return gathered(before_BL) * (1 - share) + gathered(after_BL) * share
