"""Detectors that bring their own loss and their own decoding, such as torchvision's."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from ema_lab.specs.detection import SuppressionForm
from ema_lab.wording import number_of

ROW = 6  # numbers of a detection: corners, score, class


@runtime_checkable
class OwnLossDetector(Protocol):
    """Interface of a detector with a loss and a decoding of its own.

    Called with images (B, C, H, W), the detector returns its raw outputs: a tensor or a tuple of tensors (B,
    ...). Their shapes depend on the shape of the images alone, because this call is counted and run on the
    meta device.
    """

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of the loss in training mode as scalars by name. Their sum is the loss.

        Each is a mean over the images. A name becomes a column `train_NAME` of the curve.

        Args:
            images: (B, C, H, W), normalised.
            targets: (T, 6): image of the batch, class, box as x, y, width, height in [0, 1].
        """

    def detections(self, images: Tensor, suppression: SuppressionForm) -> list[Tensor]:
        """Return the detections of each image in evaluation mode, by descending score.

        Each is (M, 6): corners in pixels of the batch, score in [0, 1], class. M is at most
        `suppression.most`, and scores are above `suppression.confidence`.
        """


def loss_problem(terms: object) -> str:
    """Return the problem of the terms of a loss; "" for valid terms."""
    if not isinstance(terms, Mapping) or not terms:
        return f"losses() must return the terms of the loss by name, got {_kind(terms)}"
    for name, term in terms.items():
        if not isinstance(name, str) or not name.isidentifier():
            return f"losses() must name each term by a word, got {name!r}"
        if not isinstance(term, Tensor) or term.numel() != 1 or term.ndim:
            return f"losses() must return scalars, got {_kind(term)} for {name!r}"
        if not term.isfinite():
            return f"losses() must be finite on made-up images, got {float(term.detach())} for {name!r}"
    if not any(term.requires_grad for term in terms.values()):
        return "no term of losses() has a gradient"
    return ""


def detection_problem(
    results: object, images: Tensor, classes: int, most: int = SuppressionForm().most
) -> str:
    """Return the problem of the detections of images; "" for valid detections."""
    if not isinstance(results, list | tuple) or len(results) != len(images):
        size = number_of(len(results), "item") if isinstance(results, list | tuple) else _kind(results)
        return f"detections() must return one tensor per image ({len(images)}), got {size}"
    for rows in results:
        if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] != ROW or len(rows) > most:
            return f"detections() must return (M, {ROW}) for each image, M at most {most}, got {_kind(rows)}"
        if not rows.isfinite().all():
            return "detections() must be finite"
        if (rows[:, 2:4] < rows[:, :2]).any():
            return "detections() must give corners as left, top, right, bottom"
        scores, numbers = rows[:, 4], rows[:, 5]
        if ((scores < 0) | (scores > 1)).any() or (scores.diff() > 0).any():
            return "detections() must give scores from 0 to 1, by falling score"
        if ((numbers < 0) | (numbers >= classes) | (numbers % 1 != 0)).any():
            return f"detections() must give classes from 0 to {classes - 1}"
    return ""


def _kind(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
