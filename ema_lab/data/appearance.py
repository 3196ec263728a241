"""Random operations on single images: RandAugment, colour jitter, erasing. (seed, epoch, index) decides all.

Kernels are torchvision's for uint8 tensors (C, H, W), always on the CPU. RandAugment's operations and
strengths are timm's; geometry is bilinear, where timm draws between bilinear and bicubic.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ema_lab.randomness import hash_counters, hash_indices, uniforms
from ema_lab.specs.augment import AugmentSpec, ColourSpec, EraseSpec, RandAugmentSpec

ERASE_TRIES = 10
ERASE_ASPECTS = (0.3, 1 / 0.3)
MOST = 10.0  # magnitude
BILINEAR = InterpolationMode.BILINEAR
Draw = Callable[[str], float]  # a number in (0, 1) for a purpose
ORDERS = tuple(itertools.permutations(range(4)))


@dataclass(frozen=True)
class Appearance:
    """Random changes of training images, after crop and flip.

    Attributes:
        spec: The augmentation.
        mean: Mean of each channel that normalises images, of pixels in [0, 1].
        std: Deviation of each channel.
    """

    spec: AugmentSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def changed(self, images_BCHW: Tensor, indices_B: Tensor, seed: int, epoch: int) -> Tensor:
        """Return the changed images, uint8 (B, C, H, W)."""
        spec = self.spec
        if spec.resolution is not None:
            size = spec.resolution.size(epoch, images_BCHW.shape[-1])
            if size != images_BCHW.shape[-1]:
                images_BCHW = F.resize(images_BCHW, [size, size], BILINEAR, antialias=True)
        if spec.randaugment is None and spec.colour is None and spec.erase is None:
            return images_BCHW
        pairs = zip(images_BCHW, indices_B.tolist(), strict=True)
        return torch.stack([self._changed(image, index, seed, epoch) for image, index in pairs])

    def _changed(self, image: Tensor, index: int, seed: int, epoch: int) -> Tensor:
        def draw(purpose: str) -> float:
            bits = hash_counters(seed, "augmentation", purpose, epoch, index)
            return ((bits >> 32) + 0.5) * 2.0**-32

        if self.spec.randaugment is not None:
            fill = [float(min(255, round(255 * value))) for value in self.mean]
            for operation in randaugment(self.spec.randaugment, draw, fill):
                image = operation(image)
        if self.spec.colour is not None:
            image = recoloured(image, self.spec.colour, draw)
        if self.spec.erase is not None:
            noise = hash_counters(seed, "augmentation", "erase noise", epoch, index)
            image = self._erased(image, self.spec.erase, draw, noise)
        return image

    def _erased(self, image: Tensor, spec: EraseSpec, draw: Draw, noise: int) -> Tensor:
        box = erased_box(spec, draw, image.shape[1], image.shape[2])
        if box is None:
            return image
        top, left, rows, columns = box
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        pixels = mean[:, None, None].expand(-1, rows, columns)
        if spec.fill == "noise":
            places = torch.arange(pixels.numel())
            normal = torch.special.ndtri(uniforms(hash_indices(noise, places)) + 2.0**-33)
            pixels = pixels + std[:, None, None] * normal.reshape(pixels.shape)
        image = image.clone()
        image[:, top : top + rows, left : left + columns] = (255 * pixels).round().clamp(0, 255).byte()
        return image


def randaugment(spec: RandAugmentSpec, draw: Draw, fill: list[float]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the operations on one image, in order.

    Args:
        spec: Number and strength of the operations.
        draw: Random numbers of the image.
        fill: Value of each channel where geometry leaves the image.
    """
    for number in range(spec.operations):
        if draw(f"apply {number}") >= spec.probability:
            continue
        name = OPERATIONS[int(draw(f"operation {number}") * len(OPERATIONS))]
        normal = torch.special.ndtri(torch.tensor(draw(f"strength {number}"), dtype=torch.float64)).item()
        strength = min(max(spec.magnitude + spec.std * normal, 0.0), MOST)
        sign = -1.0 if draw(f"sign {number}") < 0.5 else 1.0
        yield partial(
            operation, name=name, level=strength / MOST, sign=sign, increasing=spec.increasing, fill=fill
        )


OPERATIONS = (
    *("autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add"),
    *("saturation", "contrast", "brightness", "sharpness"),
    *("shear_x", "shear_y", "translate_x", "translate_y"),
)


def operation(
    image: Tensor, name: str, *, level: float, sign: float, increasing: bool, fill: list[float]
) -> Tensor:
    """Apply an operation of RandAugment to a uint8 image (C, H, W).

    Args:
        image: The image.
        name: One of `OPERATIONS`.
        level: Strength from 0 to 1.
        sign: 1 or -1, of operations with a direction.
        increasing: Whether a greater level always changes more.
        fill: Value of each channel where geometry leaves the image.
    """
    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        return _moved(image, name, sign * level, fill)
    if name in ("saturation", "contrast", "brightness", "sharpness"):
        factor = max(0.1, 1 + sign * 0.9 * level) if increasing else 1.8 * level + 0.1
        adjusted: Tensor = getattr(F, f"adjust_{name}")(image, factor)
        return adjusted
    if name == "posterize":
        bits = int(4 * level)
        changed: Tensor = F.posterize(image, 4 - bits if increasing else bits)
    elif name == "solarize":
        threshold = int(256 * level)
        changed = _solarized(image, 256 - threshold if increasing else threshold)
    elif name == "solarize_add":
        added = (image.int() + int(110 * level)).clamp(max=255).byte()
        changed = torch.where(image < 128, added, image)
    else:
        changed = getattr(F, name)(image)
    return changed


def _solarized(image: Tensor, threshold: int) -> Tensor:
    return torch.where(image.int() >= threshold, 255 - image, image)


def _moved(image: Tensor, name: str, level: float, fill: list[float]) -> Tensor:
    height, width = image.shape[1:]
    angle, shift, shear = 0.0, [0.0, 0.0], [0.0, 0.0]
    centre: list[float] | None = [0.0, 0.0]
    if name == "rotate":
        angle, centre = 30 * level, None
    elif name == "shear_x":
        shear[0] = math.degrees(math.atan(0.3 * level))
    elif name == "shear_y":
        shear[1] = math.degrees(math.atan(0.3 * level))
    elif name == "translate_x":
        shift[0] = 0.45 * level * width
    else:
        shift[1] = 0.45 * level * height
    moved: Tensor = F.affine(image, angle, shift, 1.0, shear, BILINEAR, fill, centre)
    return moved


def recoloured(image: Tensor, spec: ColourSpec, draw: Draw) -> Tensor:
    """Change brightness, contrast, saturation and hue of a uint8 image (C, H, W) in a random order."""
    names = ("brightness", "contrast", "saturation", "hue")
    for number in ORDERS[int(draw("colour order") * len(ORDERS))]:
        name = names[number]
        most = getattr(spec, name)
        if not most:
            continue
        least = -most if name == "hue" else max(0.0, 1 - most)
        greatest = most if name == "hue" else 1 + most
        image = getattr(F, f"adjust_{name}")(image, least + (greatest - least) * draw(f"colour {name}"))
    return image


def erased_box(spec: EraseSpec, draw: Draw, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of the erased rectangle; None if nothing is erased.

    The area is uniform, the aspect ratio log-uniform; the first of ten tries that fits counts.
    """
    if draw("erase") >= spec.probability:
        return None
    least, greatest = spec.area
    low, high = map(math.log, ERASE_ASPECTS)
    for number in range(ERASE_TRIES):
        area = height * width * (least + (greatest - least) * draw(f"erase area {number}"))
        ratio = math.exp(low + (high - low) * draw(f"erase aspect {number}"))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < rows < height and 0 < columns < width:
            top = int(draw(f"erase row {number}") * (height - rows + 1))
            return top, int(draw(f"erase column {number}") * (width - columns + 1)), rows, columns
    return None
