"""Random changes of training images, derived from (seed, epoch, index): any subset, in any order, on
any device gives every image the same pixels.

Shape letters: B batch, C channels, H rows, W columns.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ema_lab.randomness import hash_counters, hash_indices, integers_below
from ema_lab.specs.recipe import AugmentSpec


def augmented(images_BCHW: Tensor, indices_B: Tensor, spec: AugmentSpec, seed: int, epoch: int) -> Tensor:
    """Return the images of one epoch: cropped from a zero-padded border, then flipped, as specified."""

    def bits(purpose: str) -> Tensor:
        return hash_indices(hash_counters(seed, "augmentation", purpose, epoch), indices_B)

    if spec.crop_padding:
        limit = 2 * spec.crop_padding + 1
        rows, columns = integers_below(bits("crop row"), limit), integers_below(bits("crop column"), limit)
        images_BCHW = crops(images_BCHW, spec.crop_padding, rows, columns)
    if spec.flip:
        mirror = integers_below(bits("flip"), 2).bool()
        images_BCHW = torch.where(mirror[:, None, None, None], images_BCHW.flip(3), images_BCHW)
    return images_BCHW


def crops(images_BCHW: Tensor, padding: int, rows_B: Tensor, columns_B: Tensor) -> Tensor:
    """Cut H x W out of each zero-padded image, starting at its own row and column."""
    batch, channels, height, width = images_BCHW.shape
    padded = F.pad(images_BCHW, (padding,) * 4)
    rows_BH = rows_B[:, None] + torch.arange(height, device=rows_B.device)
    columns_BW = columns_B[:, None] + torch.arange(width, device=columns_B.device)
    index_BHW = rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]
    index_BCL = index_BHW.reshape(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index_BCL).reshape(batch, channels, height, width)
