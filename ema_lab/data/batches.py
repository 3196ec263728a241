"""Batches of images whose content depends on (seed, epoch, index) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ema_lab.data.appearance import Appearance
from ema_lab.data.augmentation import augmented, random_crops
from ema_lab.data.encoded import EncodedImages
from ema_lab.data.images import ImageSource
from ema_lab.data.mixing import mixed
from ema_lab.data.share import ALONE, Share
from ema_lab.errors import DataError
from ema_lab.randomness import permutation
from ema_lab.specs.augment import AugmentSpec

Key = tuple[int, int]  # epoch, index: all that a loader worker needs
Batch = tuple[Tensor, Tensor, Tensor]  # images uint8 (B, C, H, W), labels (B,), indices (B,)


class Keys(list[Key]):
    """Keys of one rank of a batch. `following`: the next key of the global batch, if it is another rank's."""

    following: Key | None = None


class ShuffledBatches(Sampler[list[Key]]):
    """Batches of (epoch, index) in an order that depends on (seed, epoch) alone.

    The last batch may be smaller. A last batch of a single image is dropped, because batch normalisation
    cannot compute its variance. Without `shuffle`, every epoch has the order of the indices.

    `share`: of the process; each process gets its part of every batch.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, seed: int, *, shuffle: bool = True, share: Share = ALONE
    ) -> None:
        self._shuffle = shuffle
        self._share = share
        self._indices = indices
        self._batch_size = batch_size
        self._seed = seed
        self._first = (0, 0)
        self.epoch = 0

    def begin_at(self, epoch: int, batch: int) -> None:
        """Begin an epoch at a batch, for a run that is resumed within the epoch.

        Later epochs start at batch 0.
        """
        self._first = (epoch, batch)
        self.epoch = epoch

    @property
    def sampler(self) -> "ShuffledBatches":
        """This object: Lightning calls `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._indices), self._batch_size)
        return whole + (rest > 1 or whole == 0)

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch, batch in self._whole(torch.device("cpu")):
            part = self._share.part(len(batch))
            keys = Keys((epoch, index) for index in batch[part.start : part.stop].tolist())
            if not part.is_whole:
                keys.following = (epoch, int(batch[part.stop % len(batch)]))
            yield keys

    def on(self, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Yield the epoch and the indices of this process's part of each batch, on a device."""
        for epoch, batch in self._whole(device):
            part = self._share.part(len(batch))
            yield epoch, batch[part.start : part.stop]

    def _whole(self, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        order = self._indices.to(device)
        if self._shuffle:
            order = order[permutation(len(order), self._seed, "order", self.epoch, device=device)]
        epoch, batch = self._first
        for number in range(batch if self.epoch == epoch else 0, len(self)):
            yield self.epoch, order[number * self._batch_size : (number + 1) * self._batch_size]


class OrderedBatches(Sampler[list[Key]]):
    """Batches of all indices in order, for evaluation."""

    def __init__(self, indices: Tensor, batch_size: int) -> None:
        self._indices = indices
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        return ([(0, index) for index in batch.tolist()] for _, batch in self.on(torch.device("cpu")))

    def on(self, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Yield epoch 0 and the indices of each batch, on a device."""
        return ((0, batch) for batch in self._indices.to(device).split(self._batch_size))


@dataclass(frozen=True)
class Images(Dataset[Batch]):
    """Data set that returns whole batches (see `Batch`); `augment` is None for evaluation.

    With `augment.mix` the labels are the share of each class, float32 (B, classes).

    Attributes:
        source: The images.
        augment: The augmentation.
        seed: The run's seed.
        appearance: Changes of single images, where the augmentation has some.
        classes: Number of classes, where it mixes images.
    """

    source: ImageSource
    augment: AugmentSpec | None = None
    seed: int = 0
    appearance: Appearance | None = None
    classes: int = 0

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        mix = None if self.augment is None else self.augment.mix
        count = len(keys)
        if mix is not None and isinstance(keys, Keys) and keys.following is not None:
            keys = [*keys, keys.following]  # the last image is mixed with it
        indices = torch.tensor([index for _, index in keys])
        epoch = keys[0][0]
        images = self._pixels(indices, epoch)
        labels = self.source.labels[indices]
        if mix is None:
            return images, labels, indices
        images, targets = mixed(images, labels, indices, mix, (self.seed, epoch, self.classes))
        return images[:count], targets[:count], indices[:count]

    def _pixels(self, indices: Tensor, epoch: int) -> Tensor:
        images = self._cropped(indices, epoch)
        if images.dtype != torch.uint8:  # normalisation would take any values as 0..255
            source = type(self.source).__name__
            raise DataError(f"{source} must give images of type torch.uint8, not {images.dtype}")
        if self.augment is None:
            return images
        is_own = isinstance(self.source, EncodedImages)  # whose batches are new; another's may be views
        images = augmented(images, indices, self.augment, self.seed, epoch, in_place=is_own)
        if self.appearance is None:
            return images
        return self.appearance.changed(images, indices, self.seed, epoch)

    def _cropped(self, indices: Tensor, epoch: int) -> Tensor:
        if self.augment is None or self.augment.resized_crop_area is None:
            return self.source.whole(indices)
        crops = random_crops(indices, self.augment.resized_crop_area, self.seed, epoch)
        return self.source.cropped(indices, crops)
