"""Batches in pieces: what does not fit into memory at once is computed one piece after another.

The gradients of the pieces add up to those of the batch. Batch norms, and losses that are normalised over a
batch, see one piece at a time, so that results differ: the record has the number of pieces, and tables mark
pairs that differ in it.
"""

import logging
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn

from ema_lab.tasks.task import Batch, Task

LEAST_IMAGES = 2  # of a piece: batch norms cannot compute the variance of a single image
PROTECTED = 3  # batches of an attempt at which memory may run out: later ones take no more
logger = logging.getLogger(__name__)


class Pieces:
    """Number of pieces in which each batch is computed; it doubles when memory runs out.

    Args:
        model: The model, whose buffers a batch that fails may have changed.
        task: Its task, which cuts batches.
        allowed: Whether batches may be cut.

    Attributes:
        count: Number of pieces.
    """

    def __init__(self, model: nn.Module, task: Task, *, allowed: bool) -> None:
        self.count = 1
        self._model = model
        self._task = task
        self._left = PROTECTED if allowed else 0
        self._buffers: list[torch.Tensor] | None = None

    def of(self, batch: Batch) -> Iterator[tuple[int, Batch]]:
        """Yield the position of each piece's first image, and the piece."""
        images = len(batch[-1])
        count = max(1, min(self.count, images // LEAST_IMAGES))
        if count == 1:
            yield 0, batch
            return
        edges = [images * number // count for number in range(count + 1)]
        for start, stop in pairwise(edges):
            yield start, self._task.piece(batch, start, stop)

    def protect(self, *, may_fail: bool) -> None:
        """Remember the model's buffers, such as running statistics, before one of the first batches.

        `may_fail`: whether no gradients of earlier batches would be lost with this one's.
        """
        self._buffers = None
        if self._left and may_fail:
            self._left -= 1
            self._buffers = [buffer.detach().clone() for buffer in self._model.buffers()]

    def can_double(self, images: int) -> bool:
        """Whether a batch that did not fit can be cut into more pieces."""
        return self._buffers is not None and images // (2 * self.count) >= LEAST_IMAGES

    @torch.no_grad()
    def double(self, images: int) -> None:
        """Cut batches into twice as many pieces, and undo what a failed batch has done to the buffers."""
        assert self._buffers is not None
        for buffer, before in zip(self._model.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        self.count *= 2
        logger.warning("out of memory: batches of %d images are computed in %d pieces", images, self.count)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
