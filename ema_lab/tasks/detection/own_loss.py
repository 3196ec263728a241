"""Detectors with a loss of their own, as the task calls them: loss, detections, and a check of both."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ema_lab.errors import SpecError, error_summary
from ema_lab.models.detector import OwnLossDetector, detection_problem, loss_problem
from ema_lab.specs.detection import SuppressionForm
from ema_lab.tasks.task import BatchLoss


def own_loss(model: OwnLossDetector, images: Tensor, targets: Tensor) -> BatchLoss:
    """Return the sum of the terms of a detector's loss, and each term for the curve."""
    terms = model.losses(images, targets)
    sums = {name: term.detach() * len(images) for name, term in terms.items()}
    return BatchLoss(torch.stack(list(terms.values())).sum(), len(images), sums)


def own_detections(model: OwnLossDetector, images: Tensor, form: SuppressionForm) -> list[Tensor]:
    """Return a detector's detections in float32."""
    return [found.float() for found in model.detections(images, form)]


def check_own_loss(
    subject: str, build: Callable[[], Any], batch: tuple[Tensor, Tensor], classes: int
) -> None:
    """Run a detector on made-up images, on the CPU, and check its loss and its detections.

    Args:
        subject: The detector, for messages.
        build: Builds it, with weights.
        batch: Images (B, C, H, W) from 0 to 1, and targets (T, 6).
        classes: Number of classes.

    Raises:
        SpecError: If it fails, or what it returns breaks the contract of `OwnLossDetector`.
    """
    images, targets = batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = build()
        try:
            terms = model.train().losses(images, targets)
            with torch.no_grad():
                found = model.eval().detections(images, SuppressionForm())
        except SpecError:
            raise
        except Exception as error:  # a user's own code may raise anything
            raise SpecError(f"{subject} fails on made-up images: {error_summary(error)}") from None
    for problem in (loss_problem(terms), detection_problem(found, images, classes)):
        if problem:
            raise SpecError(f"{subject}: {problem}")
