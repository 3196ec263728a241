"""torchvision's RetinaNet, FCOS and Faster R-CNN on a feature pyramid of any classifier's stages.

Networks, losses, assignment and decoding are torchvision's own, and so are the names of all weights: a state
dict of `torchvision.models.detection.fcos_resnet50_fpn` fits `{detector: fcos, backbone: resnet50}`. Images
arrive normalised and of one size, so torchvision's own resizing and normalisation are left out.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from ema_lab.models.features import Features

_OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # sizes of RetinaNet's anchors on one level
_RATIOS = (0.5, 1.0, 2.0)  # height of an anchor over its width
_PROPOSALS = 1000  # of Faster R-CNN for each image, in evaluation


class Pyramid(Features):
    """Feature pyramid (arXiv:1612.03144): (B, C, H, W) -> maps (B, out_channels, rows, columns) by name.

    Args:
        features: The classifier's stages.
        stages: Numbers of the stages that are read.
        width: Channels of every map.
        convolutions: Makes two more maps out of the coarsest, called with its channels and theirs. None
            makes one, by pooling.

    Raises:
        ValueError: If the width is below 1, or a stage does not exist.
    """

    def __init__(
        self,
        features: Features,
        stages: Sequence[int],
        width: int,
        convolutions: Callable[[int, int], ExtraFPNBlock] | None = None,
    ) -> None:
        if width < 1:
            raise ValueError(f"neck must be at least 1, got {width}")
        super().__init__(features.body, features.maps_of(stages))
        extra = LastLevelMaxPool() if convolutions is None else convolutions(width, width)
        self.fpn = FeaturePyramidNetwork(list(self.channels), width, extra)
        self.out_channels = width

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:  # type: ignore[override]
        maps = OrderedDict((str(number), each) for number, each in enumerate(self.read(x)))
        return cast("Mapping[str, Tensor]", self.fpn(maps))


class _AsTheyAre(nn.Module):
    """Replacement for torchvision's resizing and normalisation: images pass unchanged."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [tuple(images.shape[2:])] * len(images)), targets

    def postprocess(self, predictions: Any, _sizes: object, _original_sizes: object) -> Any:
        return predictions


class _TorchvisionDetector(nn.Module):
    """Base class of the three detectors: adapts torchvision's class to the interface `OwnLossDetector`."""

    first_class = 0  # torchvision's number of the first class

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        height, width = images.shape[2:]
        centre, half = targets[:, 2:4], targets[:, 4:6] / 2
        size = targets.new_tensor([width, height, width, height])
        corners = torch.cat([centre - half, centre + half], 1) * size
        wanted = []
        for number in range(len(images)):
            mine = targets[:, 0] == number
            labels = targets[mine, 1].long() + self.first_class
            wanted.append({"boxes": corners[mine], "labels": labels})
        terms: Mapping[str, Tensor] = super().forward(images, wanted)
        return terms

    def detections(self, images: Tensor, suppression: Any) -> list[Tensor]:
        self.suppress_by(suppression)
        return [
            torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None] - self.first_class], 1)
            for one in super().forward(images)
        ]

    def suppress_by(self, suppression: Any) -> None:
        """Apply settings of suppression, which torchvision keeps as attributes."""
        holder: Any = self
        holder.score_thresh = suppression.confidence
        holder.nms_thresh = suppression.iou
        holder.detections_per_img = suppression.most

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        detector: Any = self
        return tuple(detector.head(list(detector.backbone(x).values())).values())


class _RetinaNet(_TorchvisionDetector, RetinaNet):  # type: ignore[misc]
    pass


class _FCOS(_TorchvisionDetector, FCOS):  # type: ignore[misc]
    pass


class _FasterRCNN(_TorchvisionDetector, FasterRCNN):  # type: ignore[misc]
    first_class = 1

    def suppress_by(self, suppression: Any) -> None:
        heads: Any = self.roi_heads
        heads.score_thresh, heads.nms_thresh = suppression.confidence, suppression.iou
        heads.detections_per_img = suppression.most

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the raw outputs of the proposals' head, and those for a thousand equal boxes."""
        detector: Any = self
        heads = detector.roi_heads
        maps = list(detector.backbone(x).values())
        objectness, shifts = detector.rpn.head(maps)
        whole = x.new_tensor([0, 0, x.shape[3], x.shape[2]]).expand(_PROPOSALS, 4)
        scale = maps[0].shape[2] / x.shape[2]
        pooled = roi_align(maps[0], [whole] * len(x), heads.box_roi_pool.output_size, scale, 2)
        scores, boxes = heads.box_predictor(heads.box_head(pooled))
        per_image = [each.unflatten(0, (len(x), _PROPOSALS)) for each in (scores, boxes)]
        return (*objectness, *shifts, *per_image)


def retinanet(
    features: Features,
    classes: int,
    *,
    stages: list[int] | None = None,
    neck: int = 256,
    anchor_scale: int = 4,
) -> nn.Module:
    """RetinaNet (arXiv:1708.02002): one stage, nine anchors a cell, focal loss.

    Args:
        stages: Stages of the backbone that the pyramid reads; by default the last three. Two coarser levels
            are made from the last.
        neck: Channels of the pyramid.
        anchor_scale: Side of a level's smallest anchors, in strides of the level.
    """
    pyramid = Pyramid(features, stages or _last(features, 3), neck, LastLevelP6P7)
    sides = [anchor_scale * stride for stride in _strides(pyramid, 2)]
    sizes = tuple(tuple(int(side * factor) for factor in _OCTAVE) for side in sides)
    anchors = AnchorGenerator(sizes, (_RATIOS,) * len(sizes))
    return _as_they_are(_RetinaNet(pyramid, classes, anchor_generator=anchors))


def fcos(features: Features, classes: int, *, stages: list[int] | None = None, neck: int = 256) -> nn.Module:
    """FCOS (arXiv:1904.01355): one stage, no anchors, centre sampling.

    Args:
        stages: Stages of the backbone that the pyramid reads; by default the last three. Two coarser levels
            are made from the last.
        neck: Channels of the pyramid, a multiple of 32 from 64 on.
    """
    if neck % 32 or neck < 64:  # a group of one channel has no variance on a map of one cell
        raise ValueError(f"fcos needs neck % 32 == 0 and neck >= 64, for its 32 group norms, got {neck=}")
    pyramid = Pyramid(features, stages or _last(features, 3), neck, LastLevelP6P7)
    sizes = tuple((stride,) for stride in _strides(pyramid, 2))
    anchors = AnchorGenerator(sizes, ((1.0,),) * len(sizes))
    return _as_they_are(_FCOS(pyramid, classes, anchor_generator=anchors))


def fasterrcnn(
    features: Features,
    classes: int,
    *,
    stages: list[int] | None = None,
    neck: int = 256,
    anchor_scale: int = 8,
) -> nn.Module:
    """Faster R-CNN (arXiv:1506.01497) with a feature pyramid: proposals, then a class and a box for each.

    Args:
        stages: Stages of the backbone that the pyramid reads; by default the last four. A coarser level is
            made from the last.
        neck: Channels of the pyramid.
        anchor_scale: Side of a level's anchors, in strides of the level.
    """
    pyramid = Pyramid(features, stages or _last(features, 4), neck)
    sizes = tuple((anchor_scale * stride,) for stride in _strides(pyramid, 1))
    anchors = AnchorGenerator(sizes, (_RATIOS,) * len(sizes))
    pool = MultiScaleRoIAlign([str(number) for number in range(len(pyramid.maps))], 7, 2)
    return _as_they_are(_FasterRCNN(pyramid, classes + 1, rpn_anchor_generator=anchors, box_roi_pool=pool))


def _last(features: Features, count: int) -> list[int]:
    return [one.stage for one in features.maps[-count:]]


def _strides(pyramid: Pyramid, more: int) -> list[int]:
    """Return the strides of the stages and of coarser levels, each twice that of the one before."""
    return [*pyramid.strides, *(pyramid.strides[-1] * 2 ** (1 + level) for level in range(more))]


def _as_they_are(detector: Any) -> nn.Module:
    detector.transform = _AsTheyAre()
    return cast("nn.Module", detector)
