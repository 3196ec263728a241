"""Detectors of the `ultralytics` package, if a user has installed it, under the names `ultralytics/NAME`.

That package is under the AGPL, so ema-lab does not depend on it. Its networks can take attention, be counted,
be timed, and be drawn in a gallery (`--untrained`). Networks with heads like YOLOv5's (a box, objectness and
classes for each anchor) are trained by our YOLOv5 loss; others cannot be trained here.
"""

import contextlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, nms

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone
from ema_lab.specs.detection import SuppressionForm

PACKAGE = "ultralytics"
ROW = 6  # of a network that suppresses by itself: corners, score, class
PLACES = "its layers are `network.model.0`, `network.model.1`, ...: place attention after them by such names"


def ultralytics_detector(classes: int, channels: int, architecture: str) -> Backbone:
    """Detector of the package ultralytics, by the name of its YAML file, with drawn weights.

    Raises:
        SpecError: If the package is not installed, or has no such detector.
    """
    name = f"{PACKAGE}/{architecture}"
    if importlib.util.find_spec(PACKAGE) is None:
        rule = f"{name} needs the package {PACKAGE} (AGPL-3.0), which ema-lab does not install"
        raise SpecError(f"{rule}: pip install {PACKAGE}")
    # The package reports on standard output, which belongs to a command's data.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of the package's optional parts, at its import
        with torch.device("cpu"):  # its classes hold tensors, which must not be those of a trial build
            from ultralytics.nn.tasks import DetectionModel

        logging.getLogger(PACKAGE).setLevel(logging.ERROR)
        try:
            network = DetectionModel(f"{architecture}.yaml", ch=channels, nc=classes, verbose=False)
        except FileNotFoundError:
            raise SpecError(f"{PACKAGE} has no file {architecture}.yaml of a detector") from None
    kind = RawHeads if _has_raw_heads(network, classes) else Counted
    return Backbone(kind(network, name), note=PLACES)


def _has_raw_heads(network: Any, classes: int) -> bool:
    """Return whether a network's last layer predicts as YOLOv5's does."""
    head = network.model[-1]
    anchors, outputs = getattr(head, "anchors", None), getattr(head, "no", None)
    return isinstance(anchors, Tensor) and anchors.ndim == 3 and outputs == 5 + classes


def _finest_layer(network: Any) -> str:
    """Return the name of the layer that the finest head reads."""
    return f"network.model.{network.model[-1].f[0]}"


class RawHeads(nn.Module):
    """A network with YOLOv5's heads: (B, C, H, W) -> one (B, A, rows, columns, 5 + classes) for each."""

    anchors: Tensor

    def __init__(self, network: Any, name: str) -> None:
        super().__init__()
        self.network, self.name, self.finest_layer = network, name, _finest_layer(network)
        head = network.model[-1]
        strides = [int(stride) for stride in head.stride]
        self.strides = tuple(strides)
        scale = head.stride.to(head.anchors).view(-1, 1, 1)
        self.register_buffer("anchors", (head.anchors * scale).detach().clone())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(x)
        raw = outputs if self.training else outputs[1]  # in evaluation after the decoded boxes
        return tuple(raw)


class Counted(nn.Module):
    """A network with heads of its own: counted, timed and drawn, not trained."""

    def __init__(self, network: Any, name: str) -> None:
        super().__init__()
        self.network, self.name, self.finest_layer = network, name, _finest_layer(network)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        head = self.network.model[-1]
        training = head.training
        head.training = training or x.is_meta  # as in training it does not decode, which needs values
        try:
            return tuple(_tensors(self.network(x)))
        finally:
            head.training = training

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Refuse to train.

        Raises:
            SpecError: Always.
        """
        head = type(self.network.model[-1]).__name__
        rule = "its heads do not predict x, y, width, height, objectness and classes for each anchor"
        use = "it can be counted, timed and drawn untrained"
        raise SpecError(f"{self.name} ({head}) cannot be trained here: {rule}; {use}")

    def detections(self, images: Tensor, suppression: SuppressionForm) -> list[Tensor]:
        """Return the detections of each image: (M, 6), corners in pixels, score, class.

        The network returns x, y, width, height and a score for each class, (B, 4 + classes, P); or, if it
        suppresses by itself, corners, score and class, (B, P, 6).
        """
        found = next(_tensors(self.network(images)))
        if found.shape[2] == ROW:
            return [rows[rows[:, 4] > suppression.confidence][: suppression.most] for rows in found]
        return [_suppressed(rows.T, suppression) for rows in found]


def _suppressed(rows_PK: Tensor, form: SuppressionForm) -> Tensor:
    centre, half, scores = rows_PK[:, :2], rows_PK[:, 2:4] / 2, rows_PK[:, 4:]
    if form.multi_label:
        row, cls = (scores > form.confidence).nonzero().T
    else:
        cls = scores.argmax(1)
        row = torch.arange(len(scores), device=scores.device)
        kept = scores[row, cls] > form.confidence
        row, cls = row[kept], cls[kept]
    corners = torch.cat([centre - half, centre + half], 1)[row]
    score = scores[row, cls]
    best = nms(corners, score, form.iou) if form.agnostic else batched_nms(corners, score, cls, form.iou)
    best = best[: form.most]
    return torch.cat([corners[best], score[best, None], cls[best, None].to(corners)], 1)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested outputs, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for name in outputs:
            yield from _tensors(outputs[name])
    elif isinstance(outputs, list | tuple):
        for each in outputs:
            yield from _tensors(each)
