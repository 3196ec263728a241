"""Image classification: one class per image, cross-entropy, logits as predictions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.data.images import ImageSource
from ema_lab.errors import DataError, SpecError
from ema_lab.registry.catalogue import DETECTORS
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.classification.metrics import classification_metrics
from ema_lab.tasks.task import Batch, BatchLoss, Rows, Task
from ema_lab.wording import number_of


class Classification(Task):
    """Classification by cross-entropy with label smoothing (arXiv:1512.00567).

    Targets are int64 (B,), predictions float32 logits (N, classes). Targets of mixed images are the share of
    each class, float32 (B, classes); a hit is then the class with the largest share.
    """

    def check_targets(self, name: str, source: ImageSource, count: int) -> None:
        labels = source.labels
        if not isinstance(labels, Tensor):
            raise DataError(f"{name}: expected labels as a tensor, found a {type(labels).__name__}")
        if tuple(labels.shape) != (count,) or labels.dtype != torch.int64:
            actual = f"{tuple(labels.shape)} of type {labels.dtype}"
            raise DataError(
                f"{name}: expected labels of shape ({count},) of type torch.int64, found {actual}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.facts.classes:
            expected = f"labels from 0 to {self.facts.classes - 1}"
            raise DataError(f"{name}: expected {expected}, found {low} to {high}")

    def strata(self, source: ImageSource) -> Tensor:
        return source.labels

    def made_up_batch(self, count: int) -> tuple[Tensor, Tensor]:
        noise = torch.Generator().manual_seed(0)
        images = torch.randint(256, (count, *self.facts.image_shape), dtype=torch.uint8, generator=noise)
        return images, torch.arange(count) % self.facts.classes

    def check_model(self, spec: RunSpec) -> None:
        if (name := spec.model.backbone) in DETECTORS:
            rule = f"{name} is a detector: it is here to be counted (ema-lab cost), not to be trained"
            raise SpecError(rule)
        super().check_model(spec)

    def check_outputs(self, outputs: Any, images: int, backbone: str) -> None:
        classes = self.facts.classes
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if shape != (images, classes):
            rule = f"one score per class, ({images}, {classes}) for {number_of(images, 'image')}"
            raise SpecError(f"backbone {backbone} must give {rule}, got {shape}")

    def loss(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> BatchLoss:
        images, labels, _ = batch
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        classes = labels.argmax(1) if labels.is_floating_point() else labels
        return BatchLoss(loss, len(labels), {"hits": (logits.detach().argmax(1) == classes).sum()})

    def epoch_summary(self, sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
        return {"train_top1": 100 * (sums["hits"] / images).item()}

    def predict(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> Rows:
        images, labels, _ = batch
        return {"logits": model(images).float(), "labels": labels}

    def metrics(self, predictions: Rows) -> dict[str, float]:
        return classification_metrics(predictions["logits"], predictions["labels"])
