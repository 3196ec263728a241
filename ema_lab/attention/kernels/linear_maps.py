"""Linear maps of the exact EMA kernel over the pixels of one map, and their adjoints.

Shape letters: B maps, C channels, H rows, W columns, L = H + W, M = H * W pixels, K = 9 taps of a 3x3 window.

A small map has a matrix for each linear map, so that one matrix product replaces a chain of operators. On a
wide map the matrices would cost more than passes over the pixels.
"""

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

SMALL_MAP = 64  # pixels; 8x8: a 64 x 25 matrix per channel costs less than two reductions
SMALL_TAPS = 256  # values of all channels of a map; below, a dense matrix beats nine shifted additions


class LinearMaps(Protocol):
    """Linear maps of maps with H x W pixels."""

    def means(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row and column means (B, C, L), and the mean of each tap's window (B, C, K)."""

    def add_means_gradient(self, x_BCHW: Tensor, means_BCL: Tensor, windows_BCK: Tensor) -> None:
        """Add the adjoint of `means` to x."""

    def sums(self, x_BCHW: Tensor) -> Tensor:
        """Return the row and column sums, of shape (B, C, L)."""

    def correlate(self, x_BCHW: Tensor, kernel_CK: Tensor) -> Tensor:
        """Return the sum over channels of the correlation with a 3x3 kernel each, of shape (B, M)."""

    def correlation_gradient(self, x_BCHW: Tensor, kernel_CK: Tensor, map_BM: Tensor, out: Tensor) -> Tensor:
        """Add the gradient of the pixels to `out` (B, C, H, W); return the kernel's gradient (C, K)."""


def linear_maps(x_BCHW: Tensor) -> LinearMaps:
    """Return the maps that fit a tensor's size."""
    height, width = x_BCHW.shape[2:]
    if height * width > SMALL_MAP:
        return WideMaps()
    return small_maps(height, width, x_BCHW.dtype, x_BCHW.device)


class WideMaps:
    """Linear maps as passes over the pixels."""

    def means(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """See `LinearMaps`. The means of windows follow from the border and the corners: no further pass."""
        rows, columns = x_BCHW.mean(3), x_BCHW.mean(2)
        height, width = x_BCHW.shape[2:]
        all_pixels = rows.mean(2)
        top, bottom = rows[:, :, 0] / height, rows[:, :, -1] / height
        left, right = columns[:, :, 0] / width, columns[:, :, -1] / width
        corners = x_BCHW[:, :, :: max(height - 1, 1), :: max(width - 1, 1)] / (height * width)
        windows = []
        for row, absent_row in ((-1, bottom), (None, None), (0, top)):
            for column, absent_column in ((-1, right), (None, None), (0, left)):
                window = all_pixels
                if absent_row is not None:
                    window = window - absent_row
                if absent_column is not None:
                    window = window - absent_column
                if row is not None and column is not None:
                    window = window + corners[:, :, row, column]
                windows.append(window)
        return torch.cat([rows, columns], 2), torch.stack(windows, 2)

    def add_means_gradient(self, x_BCHW: Tensor, means_BCL: Tensor, windows_BCK: Tensor) -> None:
        """See `LinearMaps`."""
        height, width = x_BCHW.shape[2:]
        taps = windows_BCK.view(*windows_BCK.shape[:2], 3, 3) / (height * width)
        rows = means_BCL[:, :, :height] / width + taps.sum((2, 3)).unsqueeze(2)
        columns = means_BCL[:, :, height:] / height
        rows[:, :, -1] -= taps[:, :, 0].sum(2)
        rows[:, :, 0] -= taps[:, :, 2].sum(2)
        columns[:, :, -1] -= taps[:, :, :, 0].sum(2)
        columns[:, :, 0] -= taps[:, :, :, 2].sum(2)
        x_BCHW += rows.unsqueeze(3)
        x_BCHW += columns.unsqueeze(2)
        for row, absent_row in ((-1, 0), (0, 2)):
            for column, absent_column in ((-1, 0), (0, 2)):
                x_BCHW[:, :, row, column] += taps[:, :, absent_row, absent_column]

    def sums(self, x_BCHW: Tensor) -> Tensor:
        """See `LinearMaps`."""
        return torch.cat([x_BCHW.sum(3), x_BCHW.sum(2)], 2)

    def correlate(self, x_BCHW: Tensor, kernel_CK: Tensor) -> Tensor:
        """See `LinearMaps`. The channels are summed first, then the nine shifted maps."""
        height, width = x_BCHW.shape[2:]
        taps = torch.bmm(kernel_CK.t().expand(len(x_BCHW), -1, -1), x_BCHW.flatten(2))
        taps = taps.view(len(x_BCHW), 9, height, width)
        result = taps[:, 4].clone()
        for tap in (0, 1, 2, 3, 5, 6, 7, 8):
            down, right = tap // 3 - 1, tap % 3 - 1
            to_rows, from_rows = _shifted(down, height)
            to_columns, from_columns = _shifted(right, width)
            result[:, to_rows, to_columns] += taps[:, tap, from_rows, from_columns]
        return result.flatten(1)

    def correlation_gradient(self, x_BCHW: Tensor, kernel_CK: Tensor, map_BM: Tensor, out: Tensor) -> Tensor:
        """See `LinearMaps`."""
        height, width = x_BCHW.shape[2:]
        padded = torch.nn.functional.pad(map_BM.view(-1, height, width), (1, 1, 1, 1))
        # A pixel's tap (i, j) reaches the output that lies (1 - i, 1 - j) away.
        windows = padded.unfold(1, height, 1).unfold(2, width, 1).flip(1, 2)
        shifted_BKM = windows.reshape(len(map_BM), 9, height * width)
        out.flatten(2).baddbmm_(kernel_CK.expand(len(map_BM), -1, -1), shifted_BKM)
        return torch.bmm(x_BCHW.flatten(2), shifted_BKM.transpose(1, 2)).sum(0)


def _shifted(offset: int, size: int) -> tuple[slice, slice]:
    """Return the positions whose neighbour at an offset exists, and those neighbours."""
    first, last = max(0, -offset), size - max(0, offset)
    return slice(first, last), slice(first + offset, last + offset)


class SmallMaps(WideMaps):
    """Linear maps as matrices.

    Args:
        sums_ML: 1 where a pixel lies in a row, or in a column.
        means_ML: The same with the weights of means, followed by those of the window means.
        taps_KMM: 1 where an output pixel's tap is a pixel, for each tap.
    """

    def __init__(self, sums_ML: Tensor, means_ML: Tensor, taps_KMM: Tensor) -> None:
        self.sums_ML, self.means_ML, self.taps_KMM = sums_ML, means_ML, taps_KMM

    def means(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """See `LinearMaps`."""
        means = x_BCHW.view(-1, len(self.means_ML)).mm(self.means_ML).view(*x_BCHW.shape[:2], -1)
        return means[:, :, :-9], means[:, :, -9:]

    def add_means_gradient(self, x_BCHW: Tensor, means_BCL: Tensor, windows_BCK: Tensor) -> None:
        """See `LinearMaps`."""
        gradient = torch.cat([means_BCL, windows_BCK], 2).flatten(0, 1)
        x_BCHW.view(len(gradient), -1).addmm_(gradient, self.means_ML.t())

    def sums(self, x_BCHW: Tensor) -> Tensor:
        """See `LinearMaps`."""
        return x_BCHW.view(-1, len(self.sums_ML)).mm(self.sums_ML).view(*x_BCHW.shape[:2], -1)

    def correlate(self, x_BCHW: Tensor, kernel_CK: Tensor) -> Tensor:
        """See `LinearMaps`."""
        if x_BCHW[0].numel() > SMALL_TAPS:
            return super().correlate(x_BCHW, kernel_CK)
        return x_BCHW.flatten(1) @ self._matrix(kernel_CK)

    def correlation_gradient(self, x_BCHW: Tensor, kernel_CK: Tensor, map_BM: Tensor, out: Tensor) -> Tensor:
        """See `LinearMaps`."""
        if x_BCHW[0].numel() > SMALL_TAPS:
            return super().correlation_gradient(x_BCHW, kernel_CK, map_BM, out)
        out.flatten(1).addmm_(map_BM, self._matrix(kernel_CK).t())
        return (x_BCHW.flatten(1).t() @ map_BM).view(len(kernel_CK), -1) @ self.taps_KMM.flatten(1).t()

    def _matrix(self, kernel_CK: Tensor) -> Tensor:
        """Return the correlation as a matrix (C M, M)."""
        return (kernel_CK @ self.taps_KMM.flatten(1)).view(-1, self.taps_KMM.shape[2])


@lru_cache(maxsize=64)
def small_maps(height: int, width: int, dtype: torch.dtype, device: torch.device) -> SmallMaps:
    """Build the matrices of a map's size, once per process."""
    with torch.inference_mode(mode=False):
        rows = torch.eye(height, dtype=torch.float64).repeat_interleave(width, 0)
        columns = torch.eye(width, dtype=torch.float64).repeat(height, 1)
        pixels = torch.arange(height * width)
        row, column = pixels // width, pixels % width
        taps = torch.stack(
            [
                (row[:, None] == row + down) & (column[:, None] == column + right)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
            ]
        ).double()
        means = [rows / width, columns / height, taps.mean(2).t()]
        return SmallMaps(
            torch.cat([rows, columns], 1).to(device, dtype),
            torch.cat(means, 1).to(device, dtype),
            taps.to(device, dtype),
        )
