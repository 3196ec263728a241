"""Parts of a recipe that only detection has: changes of images, the loss, anchors, suppression."""

import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from ema_lab.files import is_readable, read_bytes
from ema_lab.specs.strict import (
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    Spec,
    problem,
)

Anchors = tuple[tuple[tuple[float, float], ...], ...]  # width and height in pixels, by head
ANCHOR_FILE_LIMIT = 100_000  # bytes
ANCHOR_SIDES = (0.001, 1_000_000)  # pixels; others would be 0 or infinite in the loss


def _checked_anchors(value: object) -> object:
    """Return the anchors of the key `anchors`, after a check.

    A path is read as an anchor file. `fitted` and `published` are kept as they are. Any other value must be a
    list of anchors for each head.

    Raises:
        PydanticCustomError: If the value is none of these, or its heads differ in their number of anchors.
    """
    if value in ("fitted", "published"):
        return value
    sides = "sides from {:g} to {:,} pixels".format(*ANCHOR_SIDES)
    rule = f"must be fitted, published, a file, or for each head a list such as [[10, 13], [16, 30]], {sides}"
    where = ""
    if isinstance(value, str):
        where, value = f" in {value}", _anchor_file(value, rule)
    if not isinstance(value, list | tuple) or not value:
        raise problem(f"{rule}, got {value!r:.60}{where}")
    heads = tuple(_head(head, f"{rule}, got {head!r:.60}{where}") for head in value)
    counts = [len(head) for head in heads]
    if len(set(counts)) > 1:
        raise problem(f"needs as many anchors for every head, got {counts}{where}")
    return heads


def _head(value: object, rule: str) -> tuple[tuple[float, float], ...]:
    """Return pairs of numbers from a list of pairs, or from a list of numbers in pairs."""
    items = list(value) if isinstance(value, list | tuple) else []
    flat = [one for item in items for one in (item if isinstance(item, list | tuple) else [item])]
    paired = all(len(item) == 2 if isinstance(item, list | tuple) else True for item in items)
    least, most = ANCHOR_SIDES
    right = all(type(one) in (int, float) and least <= one <= most for one in flat)
    if not flat or len(flat) % 2 or not paired or not right:
        raise problem(rule)
    return tuple((float(flat[i]), float(flat[i + 1])) for i in range(0, len(flat), 2))


def _anchor_file(name: str, rule: str) -> object:
    """Read JSON, or lines of numbers, a line for each head."""
    path = Path(name)
    if not is_readable(path):
        raise problem(f"{name} lies outside the bundle, so it is not read")
    try:
        text = read_bytes(path, ANCHOR_FILE_LIMIT).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise problem(f"{rule}, got {name!r:.60}, which cannot be read ({reason})") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    try:
        return [[float(word) for word in line] for line in lines]
    except ValueError:
        raise problem(f"{rule}, got neither JSON nor lines of numbers in {name}") from None


Degrees = Annotated[float, Field(ge=0, le=180)]


class SceneAugmentSpec(Spec):
    """Random changes of training images and their boxes; 0 leaves a change out.

    A mosaic lays four images around a point and cuts an image of the usual size out of them. With the
    probability `mixup` a mosaic is mixed with another one. The last `close_mosaic` epochs use neither.

    Attributes:
        mosaic: Probability of a mosaic of four images.
        mixup: Probability that a mosaic is mixed with another one.
        close_mosaic: Last epochs without mosaics and mixing.
        degrees: Largest rotation, in degrees either way.
        translate: Largest shift, as a share of the image.
        scale: Largest change of size, as a share.
        shear: Largest shear, in degrees either way.
        perspective: Largest perspective factor.
        hue: Largest change of the hue, as a share.
        saturation: Largest change of the saturation, as a share.
        value: Largest change of the brightness, as a share.
        flip: Probability of a horizontal flip.
        flip_vertical: Probability of a vertical flip.
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

    `gains: explicit` uses `box`, `obj` and `cls` unchanged. `scaled` multiplies all by 3 / heads, `obj` by
    the square of (image size / 640) and `cls` by classes / 80, as YOLOv5 v6.0 does: objectness then weighs
    0.04 at 128 pixels.

    Attributes:
        gains: Whether the gains are taken as they are, or scaled as YOLOv5 v6.0 scales them.
        box: Gain of the boxes' loss.
        obj: Gain of the objectness loss.
        cls: Gain of the classes' loss.
        cls_positive: Weight of the right class in its loss.
        obj_positive: Weight of cells with an object in their loss.
        largest_ratio: Largest ratio of the sides of a box and an anchor that fits it.
        focal_gamma: Exponent of the focal loss; 0 leaves it out.
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
    """Settings that turn predictions into detections; see `ema_lab.tasks.detection.decode`.

    Attributes:
        confidence: Least score of a detection.
        iou: IoU above which the weaker of two detections is dropped.
        multi_label: Whether a box may have several classes.
        agnostic: Whether detections of different classes suppress each other.
        most: Largest number of detections per image.
    """

    confidence: Fraction = 0.001
    iou: Probability = 0.6
    multi_label: bool = True
    agnostic: bool = False
    most: PositiveInt = 300


class DetectionSpec(Spec):
    """The part of a recipe that only detectors have.

    `anchors: fitted` fits anchors to the training boxes where the published ones fit fewer than 98 % of
    them. Others are given in pixels, a list of [width, height] for each head, fine to coarse; or in a file,
    whose content is taken over. `shuffle: false` takes the images of every epoch in the data set's order, as
    YOLOv5 v6.0 does.

    Attributes:
        augment: Random changes of training images and their boxes.
        loss: Weights of YOLOv5's loss.
        suppression: Settings that turn predictions into detections.
        anchors: `fitted` fits anchors to the training boxes, `published` takes those of the model; or [width,
            height] in pixels for each head, or a file with such a list.
        shuffle: Whether each epoch has an order of its own. `false` keeps the data set's.
    """

    augment: SceneAugmentSpec = SceneAugmentSpec()
    loss: DetectionLossSpec = DetectionLossSpec()
    suppression: SuppressionForm = SuppressionForm()
    anchors: Annotated[
        Literal["fitted", "published"] | Anchors,
        PlainValidator(_checked_anchors, json_schema_input_type=str | list[list[Any]]),
    ] = "fitted"
    shuffle: bool = True


def settings_of_yolov5(spec: DetectionSpec) -> Iterator[tuple[str, ...]]:
    """Yield the key paths of settings that differ from their default and apply to YOLOv5's heads alone."""
    plain = DetectionSpec()
    places = [
        *(("loss", name) for name in DetectionLossSpec.model_fields),
        ("suppression", "multi_label"),
        ("suppression", "agnostic"),
        ("anchors",),
    ]
    yield from (place for place in places if reduce(getattr, place, spec) != reduce(getattr, place, plain))
