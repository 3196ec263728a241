"""Options of a gallery: images, runs, layers and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.errors import SpecError


@dataclass(frozen=True)
class GalleryOptions:
    """Choice of images, runs and submodules.

    Attributes:
        images: Numbers of test images.
        seed: Seed of the runs.
        target_layer: Layer of Grad-CAM for all rows; None takes the end of the last stage, and of a detector
            the layer that its finest head reads.
        module: Name of the module whose gate is drawn; None takes each model's last attention module.
        score: Least score of a shown detection, for detectors only; 0.25 by default.
        iou: Least IoU of a hit with a box of its class, for detectors only; 0.5 by default.
        untrained: Whether to show every row's model as its training starts, instead of finished runs.

    Raises:
        SpecError: If there is no image, or a number is negative.
    """

    images: Sequence[int] = (0, 1, 2)
    seed: int = 0
    target_layer: str | None = None
    module: str | None = None
    score: float | None = None
    iou: float | None = None
    untrained: bool = False

    def __post_init__(self) -> None:
        if not self.images or min(self.images) < 0:
            raise SpecError(f"--images must be whole numbers from 0, got {list(self.images)}")
