"""Geometry of pixels and boxes: resizing, letterboxes, rectangular batches, mosaics and random affine maps.

Numbers only, no pixels. The results equal those of YOLOv5 v6.0, so that tests can compare boxes with golden
data.
A box is its corners x1, y1, x2, y2 in pixels; a size is (height, width). Shape letters: N boxes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Size = tuple[int, int]
FILL = 114  # grey of what lies outside an image
LEAST_SIDE = 2.0  # of a moved box in pixels; it stays above
LEAST_SHARE = 0.1  # of a box's area that is still in the image
MOST_ASPECT = 20.0
_EPS = 1e-16


def resized(size: Size, long_side: int) -> Size:
    """Return the size of an image whose longer side becomes `long_side`; fractions are cut off."""
    ratio = long_side / max(size)
    return (size[0], size[1]) if ratio == 1 else (int(size[0] * ratio), int(size[1] * ratio))


@dataclass(frozen=True)
class Letterbox:
    """An image that is scaled into a canvas and centred there.

    Attributes:
        ratio: The factor of both sides.
        inner: Size of the scaled image.
        pad: Width on its left and height above it, not rounded: boxes are shifted by these.
        canvas: Size of the canvas.
    """

    ratio: float
    inner: Size
    pad: tuple[float, float]
    canvas: Size

    @property
    def corner(self) -> tuple[int, int]:
        """The pixel column and row where the scaled image begins."""
        return round(self.pad[0] - 0.1), round(self.pad[1] - 0.1)

    def to_canvas(self, boxes_N4: Floats) -> Floats:
        """Move boxes of the image to the canvas."""
        canvas: Floats = boxes_N4 * self.ratio + np.array([*self.pad, *self.pad])
        return canvas

    def to_image(self, boxes_N4: Floats) -> Floats:
        """Move boxes of the canvas to the image, without clipping them."""
        image: Floats = (boxes_N4 - np.array([*self.pad, *self.pad])) / self.ratio
        return image


def letterbox(size: Size, canvas: Size, *, enlarge: bool = False) -> Letterbox:
    """Fit an image into a canvas; it grows only if `enlarge`."""
    ratio = min(canvas[0] / size[0], canvas[1] / size[1])
    ratio = ratio if enlarge else min(ratio, 1.0)
    inner = round(size[0] * ratio), round(size[1] * ratio)
    return Letterbox(ratio, inner, ((canvas[1] - inner[1]) / 2, (canvas[0] - inner[0]) / 2), canvas)


def rectangles(
    sizes: Sequence[Size], batch: int, image_size: int, *, pad: float = 0.5, stride: int = 32
) -> tuple[NDArray[np.int64], list[Size]]:
    """Return the order of images by height over width, and the canvas of each batch in that order."""
    ratio = np.array([height / width for height, width in sizes])
    order = ratio.argsort()
    canvases = []
    for first in range(0, len(sizes), batch):
        least, most = ratio[order[first]], ratio[order[first : first + batch]].max()
        shape = (most, 1.0) if most < 1 else (1.0, 1 / least) if least > 1 else (1.0, 1.0)
        height, width = (int(np.ceil(side * image_size / stride + pad)) * stride for side in shape)
        canvases.append((height, width))
    return order, canvases


@dataclass(frozen=True)
class Tile:
    """One image of a mosaic: `source` is cut out of the image and put at `target`; both are corners."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

    def moved(self, boxes_N4: Floats) -> Floats:
        """Return the image's boxes on the mosaic's canvas, not clipped yet."""
        shift = self.target[0] - self.source[0], self.target[1] - self.source[1]
        canvas: Floats = boxes_N4 + np.array([*shift, *shift])
        return canvas


def mosaic_tiles(sizes: Sequence[Size], centre: tuple[int, int], image_size: int) -> list[Tile]:
    """Lay four images around a centre (row, column) on a canvas of twice the image size.

    Each touches the centre with a corner, in the order top left, top right, bottom left, bottom right, and is
    cut at the border of the canvas.
    """
    row, column = centre
    tiles = []
    for number, (height, width) in enumerate(sizes):
        left, top = number % 2 == 0, number < 2
        x1, x2 = (max(column - width, 0), column) if left else (column, min(column + width, 2 * image_size))
        y1, y2 = (max(row - height, 0), row) if top else (row, min(row + height, 2 * image_size))
        from_x = width - (x2 - x1) if left else 0
        from_y = height - (y2 - y1) if top else 0
        tiles.append(Tile((from_x, from_y, from_x + x2 - x1, from_y + y2 - y1), (x1, y1, x2, y2)))
    return tiles


@dataclass(frozen=True)
class AffineDraws:
    """Random numbers of one affine map, already scaled to their ranges.

    Attributes:
        perspective: Projective terms of x and of y.
        degrees: Angle of the rotation.
        scale: Factor of both sides.
        shear: Angles along x and along y, in degrees.
        translate: New position of the centre, as a share of width and of height.
    """

    perspective: tuple[float, float]
    degrees: float
    scale: float
    shear: tuple[float, float]
    translate: tuple[float, float]


def affine_matrix(draws: AffineDraws, source: Size, target: Size) -> Floats:
    """Return the map of pixel positions from an image of size `source` to one of size `target`: (3, 3).

    The image's centre goes to the origin, then perspective, rotation with scale, and shear are applied in
    this order, and the result moves to its place.
    """
    centre, perspective, shear, move = (np.eye(3) for _ in range(4))
    centre[:2, 2] = -source[1] / 2, -source[0] / 2
    perspective[2, :2] = draws.perspective
    angle = math.radians(draws.degrees)
    cosine, sine = draws.scale * math.cos(angle), draws.scale * math.sin(angle)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    shear[0, 1], shear[1, 0] = (math.tan(math.radians(value)) for value in draws.shear)
    move[:2, 2] = draws.translate[0] * target[1], draws.translate[1] * target[0]
    matrix: Floats = move @ shear @ rotation @ perspective @ centre
    return matrix


def mapped_boxes(boxes_N4: Floats, matrix: Floats, target: Size) -> Floats:
    """Return the bounds of the four mapped corners of each box, clipped to the target."""
    if not len(boxes_N4):
        return np.zeros((0, 4))
    corners = boxes_N4[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 2)
    mapped = np.concatenate([corners, np.ones((len(corners), 1))], 1) @ matrix.T
    points = (mapped[:, :2] / mapped[:, 2:]).reshape(-1, 4, 2)
    return clipped(np.concatenate([points.min(1), points.max(1)], 1), target)


def clipped(boxes_N4: Floats, size: Size, *, margin: float = 0.0) -> Floats:
    """Return boxes cut at the border of an image, `margin` pixels inside its right and lower side."""
    limit = np.array([size[1] - margin, size[0] - margin] * 2)
    cut: Floats = np.clip(boxes_N4, 0, limit)
    return cut


def worth_keeping(before_N4: Floats, after_N4: Floats, scale: float) -> NDArray[np.bool_]:
    """Return whether enough of each box is left after a map that scaled it: sides, area, aspect ratio."""
    width, height = (before_N4[:, 2:] - before_N4[:, :2]).T * scale
    new_width, new_height = (after_N4[:, 2:] - after_N4[:, :2]).T
    aspect = np.maximum(new_width / (new_height + _EPS), new_height / (new_width + _EPS))
    share = new_width * new_height / (width * height + _EPS)
    large = (new_width > LEAST_SIDE) & (new_height > LEAST_SIDE)
    kept: NDArray[np.bool_] = large & (share > LEAST_SHARE) & (aspect < MOST_ASPECT)
    return kept


def normalised(boxes_N4: Floats, size: Size) -> Floats:
    """Return centres and sizes as shares of the image, boxes cut a thousandth of a pixel inside it."""
    corners = clipped(boxes_N4, size, margin=1e-3)
    low, high = corners[:, :2], corners[:, 2:]
    scale = np.array([size[1], size[0]])
    return np.concatenate([(low + high) / 2 / scale, (high - low) / scale], 1)
