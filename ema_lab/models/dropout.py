"""Dropout whose masks depend on (seed, layer name, step) alone.

Torch's dropout draws from one shared generator: an added dropout layer, or another device, changes every
later mask. Here each mask is an integer hash of the seed, the layer's qualified name, the step and the
position. A mask is therefore the same in every variant, after a resume and on every device. Dropout called
as a function is not replaced: it draws from torch's generator, which is seeded before each step.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from ema_lab.models.insertion import replace_submodule
from ema_lab.randomness import bernoulli, hash_counters, hash_indices

Per = Literal["element", "channel", "image", "batch"]


class SeededDropout(nn.Module):
    """Dropout layer that zeroes a fraction `p` of elements, channels, images or batches in training.

    Input and output: any shape (B, C, ...). The remaining values are divided by 1 - p if `rescale`. The
    buffer `step` is not part of the state dict.

    Where several processes share a batch, positions are those of the global batch, as far as the first
    dimension is the batch, or the batch times something.
    """

    step: Tensor

    def __init__(self, p: float, per: Per, key: int, *, rescale: bool = True) -> None:
        super().__init__()
        self.p = p
        self.per = per
        self.key = key
        self.rescale = rescale
        self.first = 0  # position of the first image in the global batch
        self.images = 1  # of this process
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        mask_dims = {"element": x.dim(), "channel": 2, "image": 1, "batch": 0}[self.per]
        shape = x.shape[:mask_dims] + (1,) * (x.dim() - mask_dims)
        start = self.first * (shape.numel() // self.images) if mask_dims else 0
        positions = torch.arange(start, start + shape.numel(), device=x.device)
        bits = hash_indices(hash_indices(self.key, self.step.to(x.device)), positions)
        mask = (~bernoulli(self.p, bits)).to(x.dtype).reshape(shape)
        return x * (mask / (1 - self.p) if self.rescale and self.p < 1 else mask)

    def extra_repr(self) -> str:
        return f"p={self.p}, per={self.per}"


def seed_dropout(model: nn.Module, seed: int) -> None:
    """Replace the dropout layers of a model by seeded ones, including torchvision's and timm's."""
    for name, layer in list(model.named_modules()):
        key = hash_counters(seed, "dropout", name)
        if (seeded := _seeded(layer, key)) is not None:
            replace_submodule(model, name, seeded)


def seeded_layers(model: nn.Module) -> list[SeededDropout]:
    """Return a model's seeded dropout layers."""
    return [layer for layer in model.modules() if isinstance(layer, SeededDropout)]


def set_step(layers: Iterable[SeededDropout], step: int, first: int = 0, images: int = 1) -> None:
    """Set the training step of seeded dropout layers, which selects their masks.

    Args:
        layers: The layers.
        step: The step.
        first: Position of this process's first image in the global batch.
        images: Number of this process's images, if `first` is not 0.
    """
    for layer in layers:
        layer.step.fill_(step)
        layer.first, layer.images = first, images


def _seeded(layer: nn.Module, key: int) -> SeededDropout | None:
    match type(layer).__name__, layer:
        case "Dropout", nn.Dropout():
            return SeededDropout(layer.p, "element", key)
        case "Dropout2d", nn.Dropout2d():
            return SeededDropout(layer.p, "channel", key)
        case "StochasticDepth", _:  # torchvision
            per: Per = "image" if layer.mode == "row" else "batch"
            return SeededDropout(float(layer.p), per, key)  # type: ignore[arg-type]
        case "DropPath", _:  # timm
            return SeededDropout(
                float(layer.drop_prob or 0),  # type: ignore[arg-type]
                "image",
                key,
                rescale=bool(layer.scale_by_keep),
            )
    return None
