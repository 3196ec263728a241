"""LightningDataModule of a run: its splits, loaders and normalisation."""

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeGuard

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ema_lab.data.appearance import Appearance
from ema_lab.data.batches import Images, OrderedBatches, ShuffledBatches
from ema_lab.data.device_batches import DeviceBatches, fits
from ema_lab.data.encoded import EncodedImages
from ema_lab.data.images import ImageSource, ImageSplits, LabelledImages, stratified_choice
from ema_lab.data.load import load_splits
from ema_lab.data.memory import most_loaders, standardised
from ema_lab.data.share import ALONE, Share
from ema_lab.errors import SpecError
from ema_lab.specs.run import DataSpec, RunSpec

EVALUATION_BATCH = 256
Loader = DataLoader[Any] | DeviceBatches


class Splits(Protocol):
    """Data set as published."""

    @property
    def sha256(self) -> str:
        """Checksum of the data set's content."""


class RunData(LightningDataModule):
    """Training, validation and test batches of a run; images are normalised on the device.

    Args:
        spec: The run.
        splits: The run's data set.
        strata: Stratum of each training image, int64 (N,). A validation split samples each in proportion.
        num_workers: Number of loader processes; it does not change the batches.

    Attributes:
        device: Device of the model: images in memory are served from there.
        share: Share of this process in each training batch.
        resumed_at: Epoch and batch, from 0, at which a resumed run continues. Loader workers fetch the first
            batches before Lightning sets the sampler's epoch.

    Raises:
        DataError: If the data cannot be loaded, or does not match its facts.
    """

    def __init__(self, spec: RunSpec, splits: Splits, strata: Tensor, num_workers: int) -> None:
        super().__init__()
        self.spec = spec
        self.splits = splits
        self.num_workers = num_workers
        self.resumed_at = (0, 0)
        self.device = torch.device("cpu")
        self.share: Share = ALONE
        mean, std = spec.recipe.statistics(spec.data.facts)
        self._statistics = {
            torch.device("cpu"): (
                255 * torch.tensor(mean).reshape(1, -1, 1, 1),
                255 * torch.tensor(std).reshape(1, -1, 1, 1),
            )
        }
        self.train_indices, self.val_indices = split_indices(strata, spec.data)

    @abstractmethod
    def training_images(self) -> Dataset[Any]:
        """Return the training images, which serve whole batches by keys (epoch, index)."""

    @abstractmethod
    def evaluation_images(self, part: Literal["train", "test"]) -> Dataset[Any]:
        """Return images as they are evaluated, which serve whole batches by keys (epoch, index)."""

    def use_cores(self, free: int) -> None:
        """Prepare batches in as many processes as cores are free, if that is faster; here it is not."""

    def evaluation_batch(self) -> int:
        """Return the batch size of evaluation."""
        return EVALUATION_BATCH

    def evaluation_workers(self) -> int:
        """Return the number of processes that prepare images for evaluation."""
        return self.num_workers

    def training_batches(self) -> ShuffledBatches:
        """Return the batches of an epoch."""
        recipe = self.spec.recipe
        return ShuffledBatches(self.train_indices, recipe.batch_size, self.spec.seed, share=self.share)

    def train_dataloader(self) -> Loader:
        batches = self.training_batches()
        batches.begin_at(*self.resumed_at)
        return self._loader(self.training_images(), batches, self.num_workers)

    def watched(self) -> tuple[str, Loader] | None:
        """Return the split that is evaluated after every epoch, and its loader."""
        match self.spec.watched:
            case "test":
                return "test", self.test_dataloader()
            case "val":
                return "val", self._evaluation("train", self.val_indices)
        return None

    def split(self, name: str) -> Loader:
        """Return the evaluation loader of `train`, `val` or `test`: images in order, not augmented.

        Raises:
            SpecError: If the run has no such split.
        """
        if name == "test":
            return self.test_dataloader()
        indices = {"train": self.train_indices, "val": self.val_indices}.get(name)
        if indices is None or not len(indices):
            has = "train, val, test" if len(self.val_indices) else "train, test"
            raise SpecError(f"the run has no split {name!r}; it has {has}")
        return self._evaluation("train", indices)

    def test_dataloader(self) -> Loader:
        return self._evaluation("test", torch.arange(self.spec.data.facts.test_images))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Any, Tensor]:
        images, targets, indices = batch
        return self.normalised(images), targets, indices

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise uint8 images (B, C, H, W) to float32 by the recipe's mean and standard deviation."""
        mean, std = self._statistics_on(images.device)
        if images.device.type == "cpu":
            return standardised(images, mean, std)
        values = images.to(torch.float32, memory_format=torch.contiguous_format)
        return values.sub_(mean).div_(std)

    def _statistics_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and deviation on a device. They are copied once: each copy waits for the device."""
        if device not in self._statistics:
            mean, std = self._statistics[torch.device("cpu")]
            self._statistics[device] = (mean.to(device), std.to(device))
        return self._statistics[device]

    def _evaluation(self, part: Literal["train", "test"], indices: Tensor) -> Loader:
        batches = OrderedBatches(indices, self.evaluation_batch())
        return self._loader(self.evaluation_images(part), batches, self.evaluation_workers())

    def _loader(
        self, images: Dataset[Any], batches: ShuffledBatches | OrderedBatches, num_workers: int
    ) -> Loader:
        return DataLoader(
            images,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_as_it_is,  # the images serve whole batches
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class ImageData(RunData):
    """The data of a run on images of one size, with one row of labels each.

    Args:
        spec: The run.
        root: Folder of the data sets.
        num_workers: Loader processes.
        strata: Returns an integer per image (N,), of which a validation split takes its share of each.
    """

    splits: ImageSplits

    def __init__(
        self,
        spec: RunSpec,
        root: Path,
        num_workers: int = 0,
        strata: Callable[[ImageSource], Tensor] = lambda source: source.labels,
    ) -> None:
        splits = load_splits(spec.data, root)
        super().__init__(spec, splits, strata(splits.train), num_workers)
        self._on_device: dict[tuple[int, torch.device], LabelledImages] = {}

    def use_cores(self, free: int) -> None:
        """Decode image files in as many processes as cores are free and shared memory has room for."""
        if isinstance(self.splits.train, EncodedImages):
            count = max(self.spec.recipe.batch_size, self.evaluation_batch())
            fitting = most_loaders(count * math.prod(self.splits.train.shape[1:]))
            self.num_workers = max(0, min(free, fitting))

    def training_images(self) -> Images:
        recipe, facts = self.spec.recipe, self.spec.data.facts
        if not recipe.augment.needs_a_loader:
            return Images(self.splits.train, recipe.augment, self.spec.seed)
        appearance = Appearance(recipe.augment, *recipe.statistics(facts))
        return Images(self.splits.train, recipe.augment, self.spec.seed, appearance, facts.classes)

    def evaluation_images(self, part: Literal["train", "test"]) -> Images:
        return Images(self._part(part))

    def evaluation_workers(self) -> int:
        """Return the number of processes that prepare images; 0 for images in memory, which are slices."""
        return 0 if isinstance(self.splits.train, LabelledImages) else self.num_workers

    def _loader(
        self, images: Dataset[Any], batches: ShuffledBatches | OrderedBatches, num_workers: int
    ) -> Loader:
        """Return batches from the device for images in memory, unless a loader is needed or requested."""
        loader = super()._loader(images, batches, num_workers)
        if type(images) is not Images or (num_workers > 0 and self.device.type == "cpu"):
            return loader
        source, augment = images.source, images.augment
        needs_a_loader = augment is not None and augment.needs_a_loader
        if needs_a_loader or not _is_in_memory(source) or not fits(source, self.device):
            return loader
        key = (id(source), self.device)
        if key not in self._on_device:
            self._on_device[key] = source.to(self.device)
        return DeviceBatches(self._on_device[key], batches, augment, images.seed)

    def _part(self, part: Literal["train", "test"]) -> ImageSource:
        return self.splits.train if part == "train" else self.splits.test


def _is_in_memory(source: ImageSource) -> TypeGuard[LabelledImages]:
    return type(source) is LabelledImages and source.images.dtype == torch.uint8


def split_indices(labels: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Return the indices, in order, of the training and the validation images.

    The training subset is chosen after the validation split. Runs with the same `split_seed` therefore
    share their validation split, whatever their number of training images.

    Args:
        labels: Stratum of each image, int64 (N,).
        spec: The data of the run.
    """
    indices = torch.arange(len(labels))
    held_out = stratified_choice(labels, spec.val_images, spec.split_seed, "validation split")
    train, val = indices[~held_out], indices[held_out]
    if spec.train_images is not None:
        train = train[stratified_choice(labels[train], spec.train_images, spec.split_seed, "training subset")]
    return train, val


def _as_it_is(batch: Any) -> Any:
    return batch
