"""Mixup and CutMix: each image of a batch, and its label, is mixed with the next one of the batch.

Shares and boxes are drawn from (seed, epoch, index) of the image. Since the batches of a seed are the same in
every variant, so are the mixtures.

Shape letters: B batch, C channels, H rows, W columns, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ema_lab.randomness import hash_counters, hash_indices, integers_below, uniforms
from ema_lab.specs.augment import MixSpec


def mixed(
    images_BCHW: Tensor, labels_B: Tensor, indices_B: Tensor, spec: MixSpec, key: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Return mixed images, uint8 (B, C, H, W), and the share of every class, float32 (B, K).

    Args:
        images_BCHW: The batch's images, uint8.
        labels_B: Their classes.
        indices_B: Their indices in the data set.
        spec: What is mixed.
        key: The run's seed, the epoch, and the number of classes.
    """
    seed, epoch, classes = key
    share_B, cut_B = _shares(indices_B, spec, seed, epoch)
    height, width = images_BCHW.shape[2:]
    inside_BHW, kept_B = _boxes(indices_B, share_B, (height, width), seed, epoch)
    inside_BHW &= cut_B[:, None, None]
    share_B = torch.where(cut_B, kept_B, share_B)
    other_BCHW = images_BCHW.roll(-1, 0)
    blend_BCHW = torch.where(cut_B, 1.0, share_B).float()[:, None, None, None]
    blended = blend_BCHW * images_BCHW + (1 - blend_BCHW) * other_BCHW
    images = torch.where(inside_BHW[:, None], other_BCHW, blended.round().byte())
    one_hot_BK = F.one_hot(labels_B, classes).double()
    targets_BK = share_B[:, None] * one_hot_BK + (1 - share_B)[:, None] * one_hot_BK.roll(-1, 0)
    return images, targets_BK.float()


def _shares(indices_B: Tensor, spec: MixSpec, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return each image's share of its own mixture, and whether it is mixed by CutMix instead of Mixup."""

    from scipy.special import betaincinv

    def drawn(purpose: str) -> Tensor:
        return uniforms(hash_indices(hash_counters(seed, "augmentation", purpose, epoch), indices_B))

    if spec.mixup and spec.cutmix:
        cut_B = drawn("mix kind") < 0.5
    else:
        cut_B = torch.full(indices_B.shape, bool(spec.cutmix))
    shape_B = torch.where(cut_B, spec.cutmix, spec.mixup).double()
    share_B = torch.from_numpy(betaincinv(shape_B.numpy(), shape_B.numpy(), drawn("mix share").numpy()))
    is_mixed_B = drawn("mix") < spec.probability
    return torch.where(is_mixed_B, share_B, 1.0), cut_B


def _boxes(
    indices_B: Tensor, share_B: Tensor, size: tuple[int, int], seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Return a mask (B, H, W) of each image's box, and the share of the image that is outside of it.

    A box has the image's aspect ratio, its centre is uniform, and what lies outside the image is lost.
    """
    inside = []
    for length, purpose in zip(size, ("row", "column"), strict=True):
        bits_B = hash_indices(hash_counters(seed, "augmentation", f"mix {purpose}", epoch), indices_B)
        centre_B = integers_below(bits_B, length)
        half_B = (length * (1 - share_B).clamp(min=0).sqrt()).long() // 2
        place_BL = torch.arange(length) - centre_B[:, None]
        inside.append((place_BL >= -half_B[:, None]) & (place_BL < half_B[:, None]))
    inside_BHW = inside[0][:, :, None] & inside[1][:, None, :]
    return inside_BHW, 1 - inside_BHW.double().mean((1, 2))
