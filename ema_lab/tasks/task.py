"""The interface of a task: what is learned from images, in one place.

A task owns the loss, what is collected in training, what a prediction is and how stored predictions become
metrics. Training, evaluation, timing and the command line know nothing else of it. Its names and units are
in its description (`ema_lab.specs.task`), which is read without importing it.

A task is a class below `Task` and a literal that describes it; both are named in the entry point group
`ema_lab.tasks`, or by `task: "my_package.metrics:TASK"` in the FACTS of a data set.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ema_lab.data.images import ImageSource
from ema_lab.data.load import load_splits
from ema_lab.data.module import ImageData, RunData
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.trial import output_of
from ema_lab.registry.registry import Entry
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import DataSpec, RunSpec

Batch = tuple[Any, Any, Tensor]  # normalised images on the device, targets, indices in the data set
Rows = Mapping[str, Tensor]  # predictions: tensors on the CPU, by the name that they are stored under


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch, and what an epoch collects.

    Attributes:
        loss: A scalar, the mean over the batch's images: what the step minimises.
        images: Images in the batch.
        sums: Sums over the batch's images, without gradients.
    """

    loss: Tensor
    images: int
    sums: Mapping[str, Tensor] = field(default_factory=dict)


class Task(ABC):
    """A task on one data set, whose `facts` it is handed."""

    def __init__(self, facts: DatasetFacts) -> None:
        self.facts = facts

    @abstractmethod
    def check_targets(self, name: str, source: ImageSource, count: int) -> None:
        """Check the targets of a split.

        Args:
            name: Of the data set, for the message.
            source: The split.
            count: Images that it has.

        Raises:
            DataError: If they are not what the task learns from.
        """

    def check_data(self, data: DataSpec, root: Path) -> None:
        """Load a data set, downloaded where it is absent, and check its targets.

        Raises:
            DataError: If it cannot be loaded, or its targets are not what the task learns from.
        """
        splits = load_splits(data, root)
        self.check_targets(data.name, splits.train, data.facts.train_images)
        self.check_targets(data.name, splits.test, data.facts.test_images)

    def data_of(self, spec: RunSpec, root: Path, num_workers: int) -> RunData:
        """Return the data of a run, which was checked. By default images of one size."""
        return ImageData(spec, root, num_workers, self.strata)

    def prepare(self, model: nn.Module, data: RunData) -> None:  # noqa: B027  most tasks have nothing to do
        """Fit to the data what of a new model is not learnt, such as anchors."""

    def strata(self, source: ImageSource) -> Tensor:
        """Return an integer per image (N,): a validation split takes its share of each. By default one."""
        return torch.zeros(source.shape[0], dtype=torch.int64)

    @abstractmethod
    def made_up_batch(self, count: int) -> tuple[Tensor, Any]:
        """Return `count` made-up images, uint8 (B, C, H, W), and targets, to time a step with."""

    def check_model(self, spec: RunSpec) -> None:
        """Check that a run's model can be trained for the task.

        Raises:
            SpecError: If it cannot run, or its outputs are not what the task needs.
        """
        model = build_model(spec, device="meta").eval()
        what, shape = f"backbone {spec.model.backbone}", (2, *self.facts.image_shape)
        outputs = output_of(what, model, shape, with_values=lambda: build_model(spec))
        self.check_outputs(outputs, 2, spec.model.backbone)

    @abstractmethod
    def check_outputs(self, outputs: Any, images: int, backbone: str) -> None:
        """Check the shape of what a model returns for so many images.

        Raises:
            SpecError: If it is not what the task needs.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> BatchLoss:
        """Return the loss of a training batch."""

    def epoch_summary(self, sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
        """Return columns of the curve, named `train_...`, from an epoch's sums over so many images.

        The column `train_loss` is there for every task.
        """
        return {f"train_{name}": (total / images).item() for name, total in sums.items()}

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> Rows:
        """Return what is stored of a batch: predictions and targets, everything that metrics need.

        Tensors of batches are joined along their first dimension. The data set's index of each image is
        stored beside them as `indices`.
        """

    def inference(self, model: nn.Module, images: Tensor, recipe: RecipeSpec) -> object:
        """Return what a user of the model gets for normalised images: what `cost --latency` times."""
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
        SpecError: If it cannot be imported, or is no task.
    """
    target = data.task.code
    code = Entry(target).load()
    if not (isinstance(code, type) and issubclass(code, Task)):
        raise SpecError(f"task {data.facts.task}: {target} must be a class below {Task.__module__}.Task")
    return code(data.facts)


def stored_metrics(spec: RunSpec, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a run's stored predictions; arrays that are no numbers are not the task's."""
    rows = {name: torch.from_numpy(rows) for name, rows in arrays.items() if rows.dtype.kind in "biuf"}
    return load_task(spec.data).metrics(rows)


def check_run(spec: RunSpec) -> None:
    """Check that a run's model can be trained on its data.

    Raises:
        SpecError: If the model cannot be built, or its outputs are not what the task needs.
    """
    load_task(spec.data).check_model(spec)


def check_data(data: DataSpec, root: Path) -> None:
    """Load a data set, downloaded where it is absent, and check its targets.

    Raises:
        DataError: If it cannot be loaded, or its targets are not what the task learns from.
    """
    load_task(data).check_data(data, root)


def load_data(spec: RunSpec, root: Path, num_workers: int = 0) -> RunData:
    """Return the checked data of a run.

    Raises:
        DataError: If it cannot be loaded, or its targets are not what the task learns from.
    """
    check_data(spec.data, root)
    return load_task(spec.data).data_of(spec, root, num_workers)
