"""Predictions of a model on a split, for validation, the final test and `ema-lab eval` alike."""

import torch
from torch import Tensor, nn

from ema_lab.data.module import Loader, RunData
from ema_lab.tasks.task import Rows, Task
from ema_lab.training.precision import evaluation_precision, exact_arithmetic

INDICES = "indices"


def evaluate(model: nn.Module, task: Task, data: RunData, split: str, device: torch.device) -> Rows:
    """Return a model's predictions on `train`, `val` or `test`, as `predict` does.

    Raises:
        SpecError: If the run has no such split.
    """
    exact_arithmetic()
    data.device = device
    return predict(model.to(device), task, data, data.split(split), device)


def predict(model: nn.Module, task: Task, data: RunData, loader: Loader, device: torch.device) -> Rows:
    """Run a model over a loader in eval mode, then restore the model's mode.

    Returns:
        The task's predictions, and `indices` (N,): the index of each image in the data set.
    """
    training = model.training
    model.eval()
    parts: dict[str, list[Tensor]] = {}
    with torch.inference_mode(), evaluation_precision(data.spec.recipe, device):
        for images, targets, indices in loader:
            batch = (data.normalised(images.to(device, non_blocking=True)), targets, indices)
            found = task.predict(model, batch, data.spec.recipe)
            for name, rows in {**found, INDICES: indices}.items():
                parts.setdefault(name, []).append(rows)
    model.train(training)
    return {name: torch.cat(rows).cpu() for name, rows in parts.items()}  # one copy waits for the device
