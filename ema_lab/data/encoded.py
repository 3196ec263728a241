"""Labelled images in encoded files: decoded, cropped and resized when a batch asks for them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from ema_lab.data.augmentation import RandomCrop
from ema_lab.data.jpeg import Pixels
from ema_lab.data.memory import empty
from ema_lab.data.pictures import Picture

EVALUATION_SCALE = 256 / 224


class EncodedImages(ABC):
    """Images of any size in files; with labels and content an `ImageSource` of uint8 (B, C, H, W).

    Evaluation resizes the shorter side to `image_size` * 256 / 224 (bilinear, antialiased) and crops the
    central square of `image_size`. Training without a random crop does the same.

    Attributes:
        labels: int64 (N,).
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
    """

    labels: Tensor
    image_size: int
    channels: int

    @abstractmethod
    def pixels(self, index: int) -> Pixels:
        """Return the decoded pixels of an image, uint8 (height, width, `channels`).

        Raises:
            UnreadableDataError: If the file is gone, or cannot be opened.
            DamagedDataError: If the image cannot be decoded.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an image's file, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.labels), self.channels, self.image_size, self.image_size

    def whole(self, indices_B: Tensor) -> Tensor:
        batch = self._empty(len(indices_B))
        scaled = round(self.image_size * EVALUATION_SCALE)
        for image, index in zip(batch.numpy(), indices_B.tolist(), strict=True):
            resized = F.resize(self._picture(self.pixels(index)), scaled, InterpolationMode.BILINEAR)
            _fill(image, F.center_crop(resized, self.image_size))
        return batch

    def cropped(self, indices_B: Tensor, crops: Sequence[RandomCrop]) -> Tensor:
        batch = self._empty(len(indices_B))
        size = (self.image_size, self.image_size)
        for image, index, crop in zip(batch.numpy(), indices_B.tolist(), crops, strict=True):
            pixels = self.pixels(index)
            top, left, height, width = crop.box(*pixels.shape[:2])
            part = self._picture(pixels[top : top + height, left : left + width])
            _fill(image, part.resize(size, Image.Resampling.BILINEAR))
        return batch

    def _empty(self, count: int) -> Tensor:
        return empty((count, *self.shape[1:]), torch.uint8)

    def _picture(self, pixels: Pixels) -> Picture:
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)


def _fill(image_CHW: Pixels, picture: Picture) -> None:
    """Copy a picture's values into an image."""
    channels, height, width = image_CHW.shape
    form = (
        "RGB;L" if channels == 3 else "L"
    )  # a line of each colour in turn: Pillow is faster at it than NumPy
    values = np.frombuffer(picture.tobytes("raw", form), dtype=np.uint8)
    image_CHW[:] = values.reshape(height, channels, width).transpose(1, 0, 2)
