"""Panels of a gallery of detectors: images, boxes of each row's model, gates and Grad-CAM."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ema_lab.ablation.grid import Cell
from ema_lab.data.detection.module import EvaluationBatch, SceneData
from ema_lab.errors import SpecError
from ema_lab.gallery.maps import attention_names, detector_cam, gate_of
from ema_lab.registry.registry import unknown_name
from ema_lab.reports.figures.gallery import Panel
from ema_lab.reports.figures.scenes import Box, Kind, ScenePanel
from ema_lab.tasks.detection.analysis import in_ignored, matches
from ema_lab.tasks.detection.protocol.scene import Scene, scenes_from
from ema_lab.tasks.task import load_task
from ema_lab.wording import number_of
from ema_lab.workflow.look.gallery_options import GalleryOptions
from ema_lab.workflow.look.shown_models import ShownModels

Pixels = np.ndarray[Any, Any]
PYRAMID = "backbone.fpn.layer_blocks.0"  # the finest map of torchvision's feature pyramid


class SceneGallery:
    """Contents of the figures of detectors: images, detections of each row, and maps.

    Args:
        cells: One cell of each row, all with the same data.
        models: The models of the rows.
        data: Folder of the data sets.
        options: Images, layer and module.
        thresholds: Least score of a detection, and least IoU of a hit.

    Raises:
        SpecError: If an image does not exist.
    """

    def __init__(
        self,
        cells: Mapping[str, Cell],
        models: ShownModels,
        data: Path,
        options: GalleryOptions,
        thresholds: tuple[float, float],
    ) -> None:
        self.cells, self.models, self.options = cells, models, options
        self.score, self.iou = thresholds
        self.with_model = {name: cell for name, cell in cells.items() if models.has(cell)}
        self.source = SceneData(next(iter(self.with_model.values())).spec, data)
        self.test, self.names = self.source.splits.test, self.source.splits.names
        if max(options.images) >= len(self.test):
            rule = f"the test split has {number_of(len(self.test), 'image')}, got {max(options.images)}"
            raise SpecError(f"--images: {rule}")
        self.titles = [f"#{number}" for number in options.images]

    def images(self) -> list[Pixels]:
        """Return the images, (H, W, 3) from 0 to 1, in their own size."""
        return [(self.test.pixels(one).permute(1, 2, 0) / 255).numpy() for one in self.options.images]

    @cached_property
    def _batch(self) -> EvaluationBatch:
        keys = [(0, number) for number in self.options.images]
        return self.source.evaluation_images("test").__getitems__(keys)

    def canvases(self) -> Pixels:
        """Return the images in letterboxes, as the models see them: (B, S, S, 3) from 0 to 1."""
        return (self._batch[0].permute(0, 2, 3, 1) / 255).numpy()

    def panels(self) -> list[ScenePanel]:
        """Return the truth's panel, then one for each row; a row without a model has no boxes.

        Raises:
            StoreError: If a run has no readable predictions.
        """
        scenes_by_row = {name: self._scenes(cell) for name, cell in self.with_model.items()}
        truth = [truth_boxes(scene, self.names) for scene in next(iter(scenes_by_row.values()))]
        judged = {
            name: [judged_boxes(scene, self.names, self.score, self.iou) for scene in scenes]
            for name, scenes in scenes_by_row.items()
        }
        rows = [ScenePanel(self._label(name), judged.get(name)) for name in self.cells]
        return [ScenePanel("truth", truth), *rows]

    @cached_property
    def layer(self) -> str:
        """The layer of Grad-CAM."""
        return self.options.target_layer or finest_layer(
            self.models.model(next(iter(self.with_model.values())))
        )

    def maps(self) -> list[Panel]:
        """Return the gate and the Grad-CAM of each row.

        Raises:
            SpecError: If a layer or a module does not exist.
            StoreError: If a run has no readable weights.
        """
        inputs = self.source.normalised(self._batch[0])
        panels: list[Panel] = []
        attentions: list[str] = []
        for name in self.cells:
            if name not in self.with_model:
                panels.append(Panel(self._label(name), None, None))
                continue
            model = self.models.model(self.with_model[name])
            spec = self.with_model[name].spec
            form = spec.recipe.detection.suppression
            if self.options.untrained and spec.model.start is None:  # all its scores may be below the least
                form = form.model_copy(update={"confidence": 0.0, "multi_label": False})
            cam = detector_cam(model, inputs, self.score, self.layer, form)
            panels.append(Panel(self._label(name), gate_of(model, inputs, self.options.module), cam))
            attentions += attention_names(model)
        if self.options.module and all(panel.gate is None for panel in panels):
            name = self.options.module
            raise SpecError(f"--module: {unknown_name('module', name, dict.fromkeys(attentions))}")
        return panels

    def _label(self, name: str) -> str:
        return self.models.label(name, self.cells[name])

    def _scenes(self, cell: Cell) -> list[Scene]:
        """Return the images with a cell's detections: as stored with its run, or predicted by its model."""
        arrays = self.models.stored_predictions(cell) or self._predicted(cell)
        places = {int(index): place for place, index in enumerate(arrays["indices"])}
        scenes = scenes_from(arrays)
        return [scenes[places[number]] for number in self.options.images]

    def _predicted(self, cell: Cell) -> dict[str, Pixels]:
        images, truth, indices = self._batch
        batch = self.source.normalised(images), truth, indices
        with torch.no_grad():
            rows = load_task(cell.spec.data).predict(self.models.model(cell), batch, cell.spec.recipe)
        return {name: value.numpy() for name, value in {**rows, "indices": indices}.items()}


def finest_layer(model: nn.Module) -> str:
    """Return the layer that the finest head reads: the end of a YOLOv5's top-down path, or of a pyramid.

    A model that knows this layer names it in the attribute `finest_layer`.

    Raises:
        SpecError: If the model has none of them.
    """
    named = getattr(model, "finest_layer", None)
    if isinstance(named, str):
        return named
    path = getattr(model, "top_down", None)
    if isinstance(path, nn.ModuleDict) and len(path):
        return f"top_down.{list(path)[-1]}"
    if PYRAMID in dict(model.named_modules()):
        return PYRAMID
    raise SpecError("the layers that the heads read are not known: name a layer with --target-layer")


def truth_boxes(scene: Scene, names: Sequence[str]) -> list[Box]:
    """Return the boxes of an image's truth; crowds, and other ignored boxes and regions, are marked."""
    boxes = [
        Box(_corners(box), names[cls], "ignored" if ignored else "truth")
        for box, cls, ignored in zip(scene.boxes, scene.classes, scene.ignored, strict=True)
    ]
    return boxes + [Box(_corners(box), "", "ignored") for box in scene.ignored_regions]


def judged_boxes(scene: Scene, names: Sequence[str], score: float, iou: float) -> list[Box]:
    """Return an image's misses, then its hits and false alarms in ascending order of score.

    In descending order of score, each hit takes the free box of its class with the greatest IoU. Unmatched
    detections in ignored boxes or regions are left out.
    """
    chosen = np.nonzero(scene.scores >= score)[0]
    taken = matches(scene, chosen, iou, same_class=True)
    is_ignored = dict(zip(chosen.tolist(), in_ignored(scene, chosen, iou).tolist(), strict=True))
    missed = set(np.nonzero(~scene.ignored)[0].tolist()) - set(taken.values())
    boxes = [Box(_corners(scene.boxes[one]), names[scene.classes[one]], "miss") for one in sorted(missed)]
    for number in sorted(chosen.tolist(), key=lambda one: scene.scores[one]):
        if number in taken or not is_ignored[number]:
            label = f"{names[scene.detected_classes[number]]}: {100 * scene.scores[number]:.0f}"
            kind: Kind = "hit" if number in taken else "false alarm"
            boxes.append(Box(_corners(scene.detected[number]), label, kind))
    return boxes


def _corners(box: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom
