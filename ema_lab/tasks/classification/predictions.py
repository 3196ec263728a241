"""Predictions of a model on a split: one code path for validation, the final test and `eval`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ema_lab.data.loading import Batch
from ema_lab.data.module import ImageData
from ema_lab.files import whole
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.tasks.classification.metrics import classification_metrics


@dataclass(frozen=True)
class Predictions:
    """Logits (N, classes) as float32, labels (N,) and dataset indices (N,), on the CPU."""

    logits: Tensor
    labels: Tensor
    indices: Tensor

    def metrics(self) -> dict[str, float]:
        return classification_metrics(self.logits, self.labels)

    def write(self, path: Path, split: str, run_id: str) -> None:
        """Write a compressed npz file that names its run, whole or not at all."""
        with whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                logits=self.logits.numpy(),
                labels=self.labels.numpy(),
                indices=self.indices.numpy(),
                split=np.array(split),
                run_id=np.array(run_id),
            )


def predict(
    model: nn.Module, data: ImageData, loader: DataLoader[Batch], device: torch.device
) -> Predictions:
    """Run a model over a loader in eval mode; the model's mode is put back."""
    training = model.training
    model.eval()
    logits, labels, indices = [], [], []
    with torch.inference_mode(), autocast(data.spec.recipe, device):
        for batch in loader:
            images, label, index = data.normalised(batch[0].to(device, non_blocking=True)), batch[1], batch[2]
            logits.append(model(images).float().cpu())
            labels.append(label)
            indices.append(index)
    model.train(training)
    return Predictions(torch.cat(logits), torch.cat(labels), torch.cat(indices))


def autocast(recipe: RecipeSpec, device: torch.device) -> torch.autocast:
    """Return the precision context of a recipe."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
