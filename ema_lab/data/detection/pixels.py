"""Pixels of detection images: resizing, affine maps and colour, on uint8 (C, H, W).

Maps refer to pixel centres, so that pixels and box edges move alike. YOLOv5's own maps refer to pixel
indices, which shifts images against boxes by up to half a pixel.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

from ema_lab.data.detection.geometry import FILL, Floats, Letterbox, Size, Tile


def resize(image: Tensor, size: Size) -> Tensor:
    """Resize bilinearly, antialiased where the image shrinks."""
    if tuple(image.shape[1:]) == size:
        return image
    resized: Tensor = vision.resize(image, list(size), antialias=True)
    return resized


def boxed(image: Tensor, box: Letterbox) -> Tensor:
    """Put an image into its letterbox."""
    canvas = torch.full((image.shape[0], *box.canvas), FILL, dtype=torch.uint8)
    left, top = box.corner
    canvas[:, top : top + box.inner[0], left : left + box.inner[1]] = resize(image, box.inner)
    return canvas


def tiled(images: list[Tensor], tiles: list[Tile], image_size: int) -> Tensor:
    """Lay four images on a mosaic's canvas."""
    canvas = torch.full((images[0].shape[0], 2 * image_size, 2 * image_size), FILL, dtype=torch.uint8)
    for image, tile in zip(images, tiles, strict=True):
        x1, y1, x2, y2 = tile.target
        from_x, from_y, to_x, to_y = tile.source
        canvas[:, y1:y2, x1:x2] = image[:, from_y:to_y, from_x:to_x]
    return canvas


def warped(image: Tensor, matrix: Floats, size: Size) -> Tensor:
    """Map an image by a (3, 3) matrix of pixel positions, bilinearly; pixels outside the image are grey."""
    height, width = size
    if tuple(image.shape[1:]) == size and np.array_equal(matrix, np.eye(3)):
        return image
    inverse = torch.from_numpy(np.linalg.inv(matrix)).float()
    down, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([across, down, torch.ones_like(down)], -1) @ inverse.T
    places = places[..., :2] / places[..., 2:]
    grid = 2 * places / torch.tensor([image.shape[2], image.shape[1]]) - 1
    shifted = image[None].float() - FILL  # what lies outside is sampled as zero
    found = F.grid_sample(shifted, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return (found[0] + FILL).round().clamp(0, 255).to(torch.uint8)


def recoloured(image: Tensor, hue: float, saturation: float, value: float) -> Tensor:
    """Multiply hue, saturation and value of an RGB image by a factor each; the hue turns around."""
    red, green, blue = image.float() / 255
    most, least = (
        torch.maximum(torch.maximum(red, green), blue),
        torch.minimum(torch.minimum(red, green), blue),
    )
    span = most - least
    safe = torch.where(span > 0, span, torch.ones_like(span))
    sector = torch.where(
        most == red,
        (green - blue) / safe % 6,
        torch.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turned = torch.where(span > 0, sector, torch.zeros_like(sector)) * hue
    colourful = torch.where(most > 0, span / most.clamp(min=1e-12), most) * saturation
    colourful, bright = colourful.clamp(0, 1), (most * value).clamp(0, 1)
    shift = torch.tensor([5.0, 3.0, 1.0])[:, None, None]
    k = (shift + turned) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return ((bright - bright * colourful * ramp) * 255).round().to(torch.uint8)
