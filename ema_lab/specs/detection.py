"""Parts of a recipe that only detection has: changes of images, the loss, anchors, suppression."""

from typing import Annotated, Literal

from pydantic import Field

from ema_lab.specs.strict import Fraction, Natural, NonNegative, Positive, PositiveInt, Probability, Spec

Degrees = Annotated[float, Field(ge=0, le=180)]


class SceneAugmentSpec(Spec):
    """Random changes of training images and their boxes; 0 leaves a change out.

    A mosaic lays four images around a point and cuts an image of the usual size out of them; `mixup` of the
    mosaics are mixed with another one. The last `close_mosaic` epochs go without both. `degrees` and
    `shear` are in degrees, `translate` and `scale` shares of the image, either way; `hue`, `saturation`
    and `value` shares that these change by. `flip` and `flip_vertical` are probabilities.
    """

    mosaic: Probability = 0.0
    mixup: Probability = 0.0
    close_mosaic: Natural = 0
    degrees: Degrees = 0.0
    translate: Fraction = 0.0
    scale: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    perspective: Annotated[float, Field(ge=0, le=0.001)] = 0.0
    hue: Probability = 0.0
    saturation: Probability = 0.0
    value: Probability = 0.0
    flip: Probability = 0.0
    flip_vertical: Probability = 0.0


class DetectionLossSpec(Spec):
    """Weights of YOLOv5's loss.

    `gains: explicit` takes `box`, `obj` and `cls` as they are. `scaled` multiplies all by 3 / heads, `obj` by
    the square of (image size / 640) and `cls` by classes / 80, as YOLOv5 v6.0 does: objectness then weighs
    0.04 at 128 pixels.
    """

    gains: Literal["explicit", "scaled"] = "explicit"
    box: NonNegative = 0.05
    obj: NonNegative = 1.0
    cls: NonNegative = 0.5
    cls_positive: Positive = 1.0
    obj_positive: Positive = 1.0
    largest_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 4.0
    focal_gamma: NonNegative = 0.0


class SuppressionForm(Spec):
    """Settings that turn predictions into detections; see `ema_lab.tasks.detection.decode`."""

    confidence: Fraction = 0.001
    iou: Probability = 0.6
    multi_label: bool = True
    agnostic: bool = False
    most: PositiveInt = 300


class DetectionSpec(Spec):
    """The part of a recipe that only detectors have.

    `anchors: fitted` fits anchors to the training boxes where the published ones fit fewer than 98 % of
    them. `shuffle: false` takes the images of every epoch in the data set's order, as YOLOv5 v6.0 does.
    """

    augment: SceneAugmentSpec = SceneAugmentSpec()
    loss: DetectionLossSpec = DetectionLossSpec()
    suppression: SuppressionForm = SuppressionForm()
    anchors: Literal["fitted", "published"] = "fitted"
    shuffle: bool = True
