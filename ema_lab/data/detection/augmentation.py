"""Training images of detection: mosaic, affine map, colour, flips, mixing, from (seed, epoch, index) alone.

Every random number is a hash of its purpose. All variants of one seed therefore see the same mosaics, in any
order and with any number of loader processes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ema_lab.data.detection.geometry import (
    AffineDraws,
    Floats,
    affine_matrix,
    clipped,
    letterbox,
    mapped_boxes,
    mosaic_tiles,
    resized,
    worth_keeping,
)
from ema_lab.data.detection.pixels import boxed, recoloured, resize, tiled, warped
from ema_lab.data.detection.scenes import SceneSource
from ema_lab.randomness import hash_counters

Loaded = tuple[Tensor, Floats, NDArray[np.int64]]  # pixels uint8 (3, H, W), boxes, classes
MIX_SHAPE = 32.0  # of the Beta distribution of a mixture's share


@dataclass(frozen=True)
class SceneAugmentation:
    """Ranges of the random changes; 0 leaves a change out.

    Attributes:
        mosaic: Probability of a mosaic of four images.
        mixup: Probability that a mosaic is mixed with another one.
        degrees: Largest rotation in degrees, either way.
        translate: Largest shift of the centre as a share of the image, either way.
        scale: Largest change of the size, as a share.
        shear: Largest shear in degrees, either way.
        perspective: Largest projective term, either way.
        hue: Largest change of the hue as a share; `saturation` and `value` likewise.
        flip: Probability of a left-right flip.
        flip_vertical: Probability of an upside-down flip.
    """

    mosaic: float = 0.0
    mixup: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    flip: float = 0.0
    flip_vertical: float = 0.0


@dataclass(frozen=True)
class Sample:
    """An image that is ready for a batch, uint8 (3, S, S), and its boxes as corners in pixels."""

    pixels: Tensor
    boxes: Floats
    classes: NDArray[np.int64]


@dataclass
class LoadedScenes:
    """Images of a source whose longer side is the image size, and the boxes that are trained on.

    Loaded images are cached up to `most_bytes`, because mosaics need every image four times an epoch.
    """

    source: SceneSource
    image_size: int
    most_bytes: int = 512 * 2**20
    _cache: dict[int, Loaded] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __call__(self, index: int) -> Loaded:
        if index in self._cache:
            return self._cache[index]
        pixels, truth = self.source.pixels(index), self.source.truth(index).trained()
        height, width = pixels.shape[1:]
        size = resized((height, width), self.image_size)
        scale = np.array([size[1] / width, size[0] / height] * 2)
        loaded = resize(pixels, size), truth.boxes * scale, truth.classes
        if self._bytes + loaded[0].numel() <= self.most_bytes:
            self._cache[index] = loaded
            self._bytes += loaded[0].numel()
        return loaded


@dataclass(frozen=True)
class TrainingScenes:
    """The training images of a run.

    Attributes:
        loaded: All images of the split, at the size of training.
        members: Indices of the training images; a mosaic's partners are drawn from them.
        augmentation: Random changes of the images.
        seed: Seed of the run.
        mosaic_epochs: Number of first epochs with mosaics and mixing.
    """

    loaded: "LoadedScenes"
    members: Sequence[int]
    augmentation: SceneAugmentation
    seed: int
    mosaic_epochs: int

    @property
    def image_size(self) -> int:
        """Height and width of a sample."""
        return self.loaded.image_size

    def sample(self, epoch: int, index: int) -> Sample:
        """Return one image of an epoch."""
        draw = self._draws(epoch, index)
        spec, size = self.augmentation, self.image_size
        mosaic = epoch < self.mosaic_epochs and draw("mosaic") < spec.mosaic
        sample = self._mosaic(draw, index) if mosaic else self._single(draw, index)
        if mosaic and draw("mixup") < spec.mixup:
            partner = self._draws(epoch, index, "mixed")
            other = self._mosaic(partner, self._member(partner("index")))
            sample = _mixed(sample, other, _beta(draw("share")))
        if spec.hue or spec.saturation or spec.value:
            gains = [1 + _between(draw(name), getattr(spec, name)) for name in ("hue", "saturation", "value")]
            sample = Sample(recoloured(sample.pixels, *gains), sample.boxes, sample.classes)
        pixels, boxes = sample.pixels, sample.boxes
        if draw("flip") < spec.flip:
            pixels, boxes = pixels.flip(2), boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [size, 0, size, 0]
        if draw("flip vertical") < spec.flip_vertical:
            pixels, boxes = pixels.flip(1), boxes[:, [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, size, 0, size]
        return Sample(pixels, boxes, sample.classes)

    def _mosaic(self, draw: Callable[[str], float], index: int) -> Sample:
        size = self.image_size
        row, column = (int(size / 2 + size * draw(f"mosaic {axis}")) for axis in ("row", "column"))
        images = [index, *(self._member(draw(f"partner {number}")) for number in range(3))]
        keys = [draw(f"order {number}") for number in range(4)]
        images = [images[number] for number in sorted(range(4), key=keys.__getitem__)]
        loaded = [self.loaded(image) for image in images]
        sizes = [(pixels.shape[1], pixels.shape[2]) for pixels, _, _ in loaded]
        tiles = mosaic_tiles(sizes, (row, column), size)
        pixels = tiled([pixels for pixels, _, _ in loaded], tiles, size)
        boxes = np.concatenate([tile.moved(boxes) for tile, (_, boxes, _) in zip(tiles, loaded, strict=True)])
        classes = np.concatenate([classes for _, _, classes in loaded])
        return self._mapped(draw, pixels, clipped(boxes, (2 * size, 2 * size)), classes)

    def _single(self, draw: Callable[[str], float], index: int) -> Sample:
        pixels, boxes, classes = self.loaded(index)
        height, width = pixels.shape[1:]
        box = letterbox((height, width), (self.image_size, self.image_size), enlarge=True)
        return self._mapped(draw, boxed(pixels, box), box.to_canvas(boxes), classes)

    def _mapped(
        self, draw: Callable[[str], float], pixels: Tensor, boxes: Floats, classes: NDArray[np.int64]
    ) -> Sample:
        """Apply the drawn affine map to an image, and drop boxes of which too little remains."""
        spec, target = self.augmentation, (self.image_size, self.image_size)
        draws = AffineDraws(
            perspective=(_between(draw("px"), spec.perspective), _between(draw("py"), spec.perspective)),
            degrees=_between(draw("degrees"), spec.degrees),
            scale=1 + _between(draw("scale"), spec.scale),
            shear=(_between(draw("shear x"), spec.shear), _between(draw("shear y"), spec.shear)),
            translate=(
                0.5 + _between(draw("translate x"), spec.translate),
                0.5 + _between(draw("translate y"), spec.translate),
            ),
        )
        height, width = pixels.shape[1:]
        matrix = affine_matrix(draws, (height, width), target)
        moved = mapped_boxes(boxes, matrix, target)
        kept = worth_keeping(boxes, moved, draws.scale)
        return Sample(warped(pixels, matrix, target), moved[kept], classes[kept])

    def _member(self, share: float) -> int:
        return int(self.members[int(share * len(self.members))])

    def _draws(self, epoch: int, index: int, *parts: str) -> Callable[[str], float]:
        """Return a function that maps the purpose of a random number to the number in [0, 1)."""

        def draw(purpose: str) -> float:
            bits = hash_counters(self.seed, "augmentation", "scene", *parts, purpose, epoch, index)
            return (bits >> 32) * 2.0**-32

        return draw


def _between(share: float, limit: float) -> float:
    """Map a number in [0, 1) to one in [-limit, limit)."""
    return limit * (2 * share - 1)


def _beta(share: float) -> float:
    """Map a number in [0, 1) to a share of a mixture, near one half."""
    from scipy.stats import beta

    return float(beta.ppf(share, MIX_SHAPE, MIX_SHAPE))


def _mixed(first: Sample, second: Sample, share: float) -> Sample:
    pixels = (first.pixels.float() * share + second.pixels.float() * (1 - share)).round().to(torch.uint8)
    boxes = np.concatenate([first.boxes, second.boxes])
    return Sample(pixels, boxes, np.concatenate([first.classes, second.classes]))
