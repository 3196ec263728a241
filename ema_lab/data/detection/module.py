"""The data of a detection run: augmented scenes to train on, letterboxes to evaluate."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ema_lab.data.batches import Key, ShuffledBatches
from ema_lab.data.detection.augmentation import LoadedScenes, SceneAugmentation, TrainingScenes
from ema_lab.data.detection.geometry import Floats, Size, letterbox, normalised, resized
from ema_lab.data.detection.load import load_scenes
from ema_lab.data.detection.pixels import boxed
from ema_lab.data.detection.scenes import SceneSource, SceneSplits
from ema_lab.data.module import EVALUATION_BATCH, RunData
from ema_lab.specs.run import RunSpec

TrainingBatch = tuple[Tensor, Tensor, Tensor]  # uint8 (B, 3, S, S), targets (T, 6), indices (B,)
Truths = dict[str, Tensor]
EvaluationBatch = tuple[Tensor, Truths, Tensor]


class SceneData(RunData):
    """Training, validation and test batches of a detection run.

    Args:
        spec: The run.
        root: Folder of the data sets.
        num_workers: Loader processes.
    """

    splits: SceneSplits

    def __init__(self, spec: RunSpec, root: Path, num_workers: int = 0) -> None:
        splits = load_scenes(spec.data, root)
        train = splits.train
        shows = [len(train.truth(index).trained().classes) > 0 for index in range(len(train))]
        super().__init__(spec, splits, torch.tensor(shows).long(), num_workers)

    @property
    def canvas(self) -> Size:
        """Height and width of the images of a batch."""
        return self.spec.data.facts.image_shape[1:]

    def training_images(self) -> "AugmentedScenes":
        return AugmentedScenes(self._training_scenes)

    @cached_property
    def _training_scenes(self) -> TrainingScenes:
        form = self.spec.recipe.detection.augment
        ranges = {field.name: getattr(form, field.name) for field in fields(SceneAugmentation)}
        return TrainingScenes(
            LoadedScenes(self.splits.train, max(self.canvas)),
            self.train_indices.tolist(),
            SceneAugmentation(**ranges),
            self.spec.seed,
            max(0, self.spec.recipe.epochs - form.close_mosaic),
        )

    def training_batches(self) -> ShuffledBatches:
        size, shuffle = self.spec.recipe.batch_size, self.spec.recipe.detection.shuffle
        return ShuffledBatches(self.train_indices, size, self.spec.seed, shuffle=shuffle, share=self.share)

    def evaluation_images(self, part: Literal["train", "test"]) -> "LetterboxedScenes":
        return LetterboxedScenes(self.splits.train if part == "train" else self.splits.test, self.canvas)

    def evaluation_batch(self) -> int:
        return min(EVALUATION_BATCH, 2 * self.spec.recipe.batch_size)

    def box_sizes(self) -> Floats:
        """Return width and height of the boxes that are trained on, in pixels of a batch: (N, 2)."""
        found = [np.zeros((0, 2))]
        for index in self.train_indices.tolist():
            height, width = size = self.splits.train.size(index)
            new_height, new_width = resized(size, max(self.canvas))
            boxes = self.splits.train.truth(index).trained().boxes
            found.append((boxes[:, 2:] - boxes[:, :2]) * [new_width / width, new_height / height])
        return np.concatenate(found)


@dataclass(frozen=True)
class AugmentedScenes(Dataset[TrainingBatch]):
    """Serves whole training batches."""

    scenes: TrainingScenes

    def __getitem__(self, key: Key) -> TrainingBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> TrainingBatch:
        samples = [self.scenes.sample(epoch, index) for epoch, index in keys]
        rows = [torch.zeros(0, 6)]
        for place, sample in enumerate(samples):
            boxes = torch.from_numpy(normalised(sample.boxes, (self.scenes.image_size,) * 2)).float()
            head = torch.stack([torch.full((len(boxes),), place), torch.from_numpy(sample.classes)], 1)
            rows.append(torch.cat([head.float(), boxes], 1))
        pixels = torch.stack([sample.pixels for sample in samples])
        return pixels, torch.cat(rows), torch.tensor([index for _, index in keys])


@dataclass(frozen=True)
class LetterboxedScenes(Dataset[EvaluationBatch]):
    """Serves whole batches of images in letterboxes, with the truth in the images' own pixels."""

    source: SceneSource
    canvas: Size

    def __getitem__(self, key: Key) -> EvaluationBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> EvaluationBatch:
        indices = [index for _, index in keys]
        images, sizes, pads, ratios = [], [], [], []
        for index in indices:
            pixels = self.source.pixels(index)
            size = (pixels.shape[1], pixels.shape[2])
            box = letterbox(size, self.canvas, enlarge=True)
            images.append(boxed(pixels, box))
            sizes.append(size)
            pads.append(box.pad)
            ratios.append(box.ratio)
        truth = {**self._truth(indices), "sizes": torch.tensor(sizes)}
        truth |= {"pad": torch.tensor(pads).float(), "ratio": torch.tensor(ratios).float()}
        return torch.stack(images), truth, torch.tensor(indices)

    def _truth(self, indices: Sequence[int]) -> Truths:
        truths = [self.source.truth(index) for index in indices]
        parts: dict[str, list[Any]] = {
            "boxes": [truth.boxes for truth in truths],
            "classes": [truth.classes for truth in truths],
            "ignored": [truth.ignored for truth in truths],
            "regions": [truth.regions for truth in truths],
        }
        joined = {name: torch.from_numpy(np.concatenate(rows)) for name, rows in parts.items()}
        places = torch.arange(len(truths))
        for name, owner in (("boxes", "box_image"), ("regions", "region_image")):
            joined[owner] = places.repeat_interleave(torch.tensor([len(rows) for rows in parts[name]]))
        return joined
