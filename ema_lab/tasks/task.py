"""Task: the interface through which training, evaluation and timing handle what is learned from images.

A task owns the loss, the sums of an epoch, the form of predictions, and the metrics of stored predictions.
Names and units of its metrics are in its description (`ema_lab.specs.task`), a literal that is read without
importing the task.

A task consists of a subclass of `Task` and the description. The description is declared in the entry point
group `ema_lab.tasks`, or by `task: "my_package.metrics:TASK"` in the FACTS of a data set.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ema_lab.data.images import ImageSource
from ema_lab.data.load import load_splits
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.trial_pass import UNKNOWN, output_of
from ema_lab.registry.registry import Entry
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import DataSpec, RunSpec

if TYPE_CHECKING:
    from ema_lab.data.module import RunData

Batch = tuple[Any, Any, Tensor]  # normalised images on the device, targets, indices in the data set
Rows = Mapping[str, Tensor]  # predictions by their name in the store


@dataclass(frozen=True)
class BatchLoss:
    """Loss of a batch, and the batch's share of the epoch's sums.

    Attributes:
        loss: Scalar to minimise, the mean over the batch's images.
        images: Number of images in the batch.
        sums: Sums over the batch's images, without gradients, by name.
    """

    loss: Tensor
    images: int
    sums: Mapping[str, Tensor] = field(default_factory=dict)


class Task(ABC):
    """Task on one data set, which is described by `facts`."""

    def __init__(self, facts: DatasetFacts) -> None:
        self.facts = facts

    @abstractmethod
    def check_targets(self, name: str, source: ImageSource, count: int) -> None:
        """Check the targets of a split.

        Args:
            name: Name of the data set, for the message.
            source: The split.
            count: Number of images in the split.

        Raises:
            DataError: If the task cannot learn from the targets.
        """

    def check_data(self, data: DataSpec, root: Path) -> None:
        """Load a data set, downloading missing files, and check its targets.

        Raises:
            DataError: If it cannot be loaded, or the task cannot learn from its targets.
        """
        splits = load_splits(data, root)
        self.check_targets(data.name, splits.train, data.facts.train_images)
        self.check_targets(data.name, splits.test, data.facts.test_images)

    def data_of(self, spec: RunSpec, root: Path, num_workers: int) -> "RunData":
        """Return the data of a run, already checked; by default images of one size."""
        from ema_lab.data.module import ImageData  # loads Lightning

        return ImageData(spec, root, num_workers, self.strata)

    def prepare(self, model: nn.Module, data: "RunData") -> None:  # noqa: B027  most tasks have nothing to do
        """Fit those parts of a new model to the data that are not learned, such as anchors."""

    def strata(self, source: ImageSource) -> Tensor:
        """Return the stratum of each image, int64 (N,), for validation splits; by default a single one."""
        return torch.zeros(source.shape[0], dtype=torch.int64)

    @abstractmethod
    def made_up_batch(self, count: int) -> tuple[Tensor, Any]:
        """Return `count` synthetic images, uint8 (B, C, H, W), and their targets, for timing a step."""

    def check_model(self, spec: RunSpec) -> None:
        """Check that a run's model can be trained for the task.

        Raises:
            SpecError: If the model cannot run, or its outputs do not fit the task.
        """
        model = build_model(spec, device="meta").eval()
        subject, shape = f"backbone {spec.model.backbone}", (2, *self.facts.image_shape)
        outputs = output_of(subject, model, shape, with_values=lambda: build_model(spec))
        if outputs is not UNKNOWN:
            self.check_outputs(outputs, 2, spec.model.backbone)

    @abstractmethod
    def check_outputs(self, outputs: Any, images: int, backbone: str) -> None:
        """Check the shape of a model's outputs for a number of images.

        Raises:
            SpecError: If the outputs do not fit the task.
        """

    def piece(self, batch: Batch, start: int, stop: int) -> Batch:
        """Return some images of a training batch with their targets: by default one row for each image."""
        images, targets, indices = batch
        return images[start:stop], targets[start:stop], indices[start:stop]

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> BatchLoss:
        """Return the loss of a training batch and the batch's share of the epoch's sums."""

    def epoch_summary(self, sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
        """Return columns of the curve, named `train_...`, from an epoch's sums and its number of images.

        Every task has the column `train_loss` in addition.
        """
        return {f"train_{name}": (total / images).item() for name, total in sums.items()}

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> Rows:
        """Return the predictions and targets of a batch to store: everything that metrics need.

        The tensors may be on any device. Batches are concatenated along the first dimension. The store also
        keeps `indices`, the index of each image in the data set.
        """

    def inference(self, model: nn.Module, images: Tensor, recipe: RecipeSpec) -> object:
        """Return the final output for normalised images. `cost --latency` times this function."""
        return model(images)

    @abstractmethod
    def metrics(self, predictions: Rows) -> dict[str, float]:
        """Compute the metrics of a split from its stored predictions alone."""

    def epoch_metrics(self, predictions: Rows) -> dict[str, float]:
        """Compute the metrics that the curve shows of an epoch: all, or those that take little time."""
        return self.metrics(predictions)


def load_task(data: DataSpec) -> Task:
    """Import the task of a data set.

    Raises:
        SpecError: If the task cannot be imported, or is not a subclass of `Task`.
    """
    target = data.task.code
    code = Entry(target).load()
    if not (isinstance(code, type) and issubclass(code, Task)):
        raise SpecError(f"task {data.facts.task}: {target} must be a subclass of {Task.__module__}.Task")
    return code(data.facts)


def stored_metrics(spec: RunSpec, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a run's stored predictions; arrays that are not numeric are ignored."""
    rows = {name: torch.from_numpy(rows) for name, rows in arrays.items() if rows.dtype.kind in "biuf"}
    return load_task(spec.data).metrics(rows)


def check_run(spec: RunSpec) -> None:
    """Check that a run's model can be trained on its data.

    Raises:
        SpecError: If the model cannot be built, or its outputs do not fit the task.
    """
    load_task(spec.data).check_model(spec)


def check_data(data: DataSpec, root: Path) -> None:
    """Load a data set, download it if it is absent, and check its targets.

    Raises:
        DataError: If the data cannot be loaded, or the task cannot learn from the targets.
    """
    load_task(data).check_data(data, root)


def load_data(spec: RunSpec, root: Path, num_workers: int = 0) -> "RunData":
    """Load and check the data of a run.

    Raises:
        DataError: If the data cannot be loaded, or the task cannot learn from the targets.
    """
    check_data(spec.data, root)
    return load_task(spec.data).data_of(spec, root, num_workers)
