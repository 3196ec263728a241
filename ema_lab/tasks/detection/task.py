"""Object detection by YOLOv5's heads and loss, or a detector's own: suppressed detections as predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ema_lab.data.detection.load import load_scenes
from ema_lab.data.detection.module import SceneData
from ema_lab.data.detection.scenes import SceneSource
from ema_lab.data.images import ImageSource
from ema_lab.data.module import RunData
from ema_lab.errors import DataError, SpecError
from ema_lab.models.build import build_model
from ema_lab.models.detector import OwnLossDetector
from ema_lab.models.trial_pass import UNKNOWN, output_of
from ema_lab.registry.catalogue import DETECTOR_HEADS
from ema_lab.specs.detection import settings_of_yolov5
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import DataSpec, RunSpec
from ema_lab.tasks.detection.anchors import chosen_anchors
from ema_lab.tasks.detection.decode import SuppressionSpec, decode, suppress
from ema_lab.tasks.detection.loss import LossSpec, detection_loss
from ema_lab.tasks.detection.metrics import detection_metrics, epoch_metrics
from ema_lab.tasks.detection.own_loss import check_own_loss, own_detections, own_loss
from ema_lab.tasks.task import Batch, BatchLoss, Rows, Task
from ema_lab.wording import number_of

VALUES = 5  # of a prediction besides its classes: x, y, width, height, objectness


class Detection(Task):
    """Detection with YOLOv5's loss and decoding, or with those of an `OwnLossDetector`.

    Training targets are (T, 6): image of the batch, class, box as x, y, width, height in [0, 1]. Those of
    evaluation are the truth and the letterbox of each image. A model without a loss of its own
    returns raw heads (B, A, H, W, 5 + classes), and has `anchors` (heads, A, 2) in pixels and `strides`.
    """

    def check_targets(self, name: str, source: ImageSource, count: int) -> None:
        raise DataError(f"{name}: expected scenes with boxes, found labelled images")

    def check_data(self, data: DataSpec, root: Path) -> None:
        splits = load_scenes(data, root)
        for what, part in (("training", splits.train), ("test", splits.test)):
            _check_boxes(f"{data.name}: {what} images", part, data.facts.classes)

    def data_of(self, spec: RunSpec, root: Path, num_workers: int) -> RunData:
        return SceneData(spec, root, num_workers)

    def prepare(self, model: nn.Module, data: RunData) -> None:
        wanted = data.spec.recipe.detection.anchors
        if wanted == "published" or isinstance(model, OwnLossDetector):
            return
        assert isinstance(data, SceneData)
        anchors = _anchors_of(model)
        if wanted != "fitted":
            anchors.copy_(torch.tensor(wanted))
            return
        ratio = data.spec.recipe.detection.loss.largest_ratio
        try:
            chosen, _ = chosen_anchors(data.box_sizes(), anchors.double().numpy(), ratio)
        except ValueError as error:
            raise DataError(
                f"{data.spec.data.name}: {error}; or set recipe.detection.anchors: published"
            ) from None
        anchors.copy_(torch.from_numpy(np.ascontiguousarray(chosen)))

    def made_up_batch(self, count: int) -> tuple[Tensor, Tensor]:
        noise = torch.Generator().manual_seed(0)
        images = torch.randint(256, (count, *self.facts.image_shape), dtype=torch.uint8, generator=noise)
        place = torch.rand(count, 4, generator=noise)
        boxes = torch.cat([0.25 + place[:, :2] / 2, 0.1 + place[:, 2:] / 5], 1)
        numbers = torch.arange(count)
        return images, torch.cat([torch.stack([numbers, numbers % self.facts.classes], 1), boxes], 1)

    def check_model(self, spec: RunSpec) -> None:
        model = build_model(spec, device="meta").eval()
        what, shape = f"backbone {spec.model.network}", (2, *self.facts.image_shape)
        outputs = output_of(what, model, shape, with_values=lambda: build_model(spec))
        if isinstance(model, OwnLossDetector):
            if outputs is not UNKNOWN and not _is_shipped(spec):  # a shipped one keeps the contract
                images, targets = self.made_up_batch(2)
                check_own_loss(what, lambda: build_model(spec), (images / 255, targets), self.facts.classes)
            if place := next(settings_of_yolov5(spec.recipe.detection), None):
                rule = f"does not apply to {what}, which has a loss of its own: remove it"
                raise SpecError(f"recipe.detection.{'.'.join(place)} {rule}")
            if spec.recipe.compile != "off":
                raise SpecError(
                    f"recipe.compile: {what} computes its own losses, uncompiled; set compile: off"
                )
            return
        if outputs is UNKNOWN:
            return
        self.check_outputs(outputs, 2, spec.model.network)
        assert isinstance(outputs, Sequence)  # `check_outputs` saw to it
        _check_cells(what, model, outputs, self.facts.image_shape[1:])
        wanted, anchors = spec.recipe.detection.anchors, _anchors_of(model)
        if not isinstance(wanted, str) and (len(wanted), len(wanted[0])) != anchors.shape[:2]:
            given, own = _counted(len(wanted), len(wanted[0])), _counted(*anchors.shape[:2])
            raise SpecError(f"recipe.detection.anchors gives {given}, but {what} has {own}")

    def check_outputs(self, outputs: Any, images: int, backbone: str) -> None:
        wanted = f"({images}, anchors, rows, columns, {VALUES + self.facts.classes}) of each head"
        heads = outputs if isinstance(outputs, tuple | list) else [outputs]
        for head in heads:
            shape = tuple(head.shape) if isinstance(head, Tensor) else type(head).__name__
            fits = isinstance(head, Tensor) and head.ndim == 5 and heads is outputs
            if not fits or (shape[0], shape[-1]) != (images, VALUES + self.facts.classes):
                hint = "; or put a detector on it: model.detector: fcos" if torch.is_tensor(outputs) else ""
                raise SpecError(f"backbone {backbone} must give raw heads {wanted}, got {shape}{hint}")

    def piece(self, batch: Batch, start: int, stop: int) -> Batch:
        images, targets, indices = batch
        rows = targets[(targets[:, 0] >= start) & (targets[:, 0] < stop)].clone()
        rows[:, 0] -= start
        return images[start:stop], rows, indices[start:stop]

    def loss(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> BatchLoss:
        images, targets, _ = batch
        if isinstance(model, OwnLossDetector):
            return own_loss(model, images, targets)
        heads = [head.float() for head in model(images)]
        found = detection_loss(heads, targets, _in_cells(model), self._weights(recipe, len(heads)))
        count = len(images)
        terms = {"box": found.box, "objectness": found.objectness, "classes": found.classes}
        sums = {name: value.detach().sum() * count for name, value in terms.items()}
        return BatchLoss(found.total.sum() / count, count, sums)

    def _weights(self, recipe: RecipeSpec, heads: int) -> LossSpec:
        spec = recipe.detection.loss
        box, obj, cls = spec.box, spec.obj, spec.cls
        if spec.gains == "scaled":
            share = 3 / heads
            box, cls = box * share, cls * share * self.facts.classes / 80
            obj *= share * (max(self.facts.image_shape[1:]) / 640) ** 2
        return LossSpec(
            box=box,
            obj=obj,
            cls=cls,
            cls_positive=spec.cls_positive,
            obj_positive=spec.obj_positive,
            largest_ratio=spec.largest_ratio,
            label_smoothing=recipe.label_smoothing,
            focal_gamma=spec.focal_gamma,
        )

    def predict(self, model: nn.Module, batch: Batch, recipe: RecipeSpec) -> Rows:
        images, truth, indices = batch
        found = [each.cpu() for each in self.inference(model, images, recipe)]
        owner = torch.repeat_interleave(indices, torch.tensor([len(each) for each in found]))
        place = torch.repeat_interleave(torch.arange(len(found)), torch.tensor([len(each) for each in found]))
        rows = torch.cat(found)
        boxes = (rows[:, :4] - truth["pad"][place].repeat(1, 2)) / truth["ratio"][place, None]
        high = truth["sizes"][place].flip(1).repeat(1, 2)
        return {
            "detected": boxes.clamp(min=0).minimum(high.to(boxes)).float(),
            "scores": rows[:, 4],
            "detected_classes": rows[:, 5].long(),
            "detected_image": owner,
            **{key: truth[key] for key in ("boxes", "classes", "ignored", "regions", "sizes")},
            "truth_image": indices[truth["box_image"]],
            "region_image": indices[truth["region_image"]],
        }

    def inference(self, model: nn.Module, images: Tensor, recipe: RecipeSpec) -> list[Tensor]:
        """Return the detections of each image: (M, 6), corners in pixels of the batch, score, class."""
        form = recipe.detection.suppression
        if isinstance(model, OwnLossDetector):
            return own_detections(model, images, form)
        spec = SuppressionSpec(form.confidence, form.iou, form.multi_label, form.agnostic, form.most)
        heads = [head.float() for head in model(images)]
        return [suppress(each, spec) for each in decode(heads, _in_cells(model), _strides_of(model))]

    def metrics(self, predictions: Rows) -> dict[str, float]:
        return detection_metrics(predictions, self.facts.classes)

    def epoch_metrics(self, predictions: Rows) -> dict[str, float]:
        return epoch_metrics(predictions)


def _counted(heads: int, anchors: int) -> str:
    """Return "3 heads with 2 anchors each" or the like."""
    return f"{number_of(heads, 'head')} with {number_of(anchors, 'anchor')}{' each' * (heads > 1)}"


def _check_cells(what: str, model: nn.Module, heads: Sequence[Tensor], sides: tuple[int, int]) -> None:
    """Check that a model's strides and anchors fit its heads, and its strides the images."""
    strides, anchors, count = _strides_of(model), _anchors_of(model), len(heads)
    if len(strides) != count or anchors.shape[:1] != (count,) or anchors.shape[2:] != (2,):
        rule = (
            f"anchors ({count}, A, 2) and {number_of(count, 'stride')}, as it has {number_of(count, 'head')}"
        )
        raise SpecError(f"{what} must have {rule}, got {tuple(anchors.shape)} and {len(strides)}")
    for head in heads:
        if head.shape[1] != anchors.shape[1]:
            rule = f"{number_of(anchors.shape[1], 'anchor')} in `anchors`, and {head.shape[1]} in its heads"
            raise SpecError(f"{what} has {rule}")
    if any(side % max(strides) for side in sides):
        rule = f"needs sides that are multiples of {max(strides)}, got {sides[0]} x {sides[1]}"
        raise SpecError(f"{what} {rule}")


def _is_shipped(spec: RunSpec) -> bool:
    """Return whether a detector is this package's own on one of its backbones."""
    detector = spec.model.detector
    return detector is not None and DETECTOR_HEADS[detector.name].target.startswith("ema_lab.")


def _anchors_of(model: nn.Module) -> Tensor:
    anchors = getattr(model, "anchors", None)
    if not isinstance(anchors, Tensor) or anchors.ndim != 3:
        found = tuple(anchors.shape) if isinstance(anchors, Tensor) else type(anchors).__name__
        raise SpecError(f"a detector needs a buffer `anchors` of shape (heads, A, 2) in pixels, got {found}")
    return anchors


def _strides_of(model: nn.Module) -> tuple[int, ...]:
    strides = getattr(model, "strides", None)
    if not isinstance(strides, tuple) or not strides or not all(type(one) is int for one in strides):
        raise SpecError(f"a detector needs `strides`, the pixels of a cell of each head, got {strides!r:.60}")
    return strides


def _in_cells(model: nn.Module) -> list[Tensor]:
    """Return the anchors of each head in cells."""
    return [sizes / stride for sizes, stride in zip(_anchors_of(model), _strides_of(model), strict=True)]


def _check_boxes(what: str, source: SceneSource, classes: int) -> None:
    boxes = 0
    for index in range(len(source)):
        truth = source.truth(index)
        boxes += int((~truth.ignored).sum())
        if not np.isfinite(truth.boxes).all():
            raise DataError(f"{what}: {source.name(index)} has a box that is not finite")
        if len(truth.boxes) and not (truth.boxes[:, 2:] > truth.boxes[:, :2]).all():
            raise DataError(f"{what}: {source.name(index)} has a box without width or height")
        if len(truth.classes) and not 0 <= truth.classes.min() <= truth.classes.max() < classes:
            low, high = truth.classes.min(), truth.classes.max()
            expected = f"classes from 0 to {classes - 1}, found {low} to {high}"
            raise DataError(f"{what}: {source.name(index)}: expected {expected}")
    if not boxes:
        rule = "at least one needs a box that is not ignored"
        raise DataError(f"{what}: none of {len(source)} has a box to learn or to find; {rule}")
