"""Gallery of models from Python: the same as the command `ema-lab gallery`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.look.gallery_options import GalleryOptions
from ema_lab.workflow.look.shown_models import FinishedRuns, ShownModels, UntrainedModels
from ema_lab.workflow.selection import Conditions, selected

if TYPE_CHECKING:
    from ema_lab.reports.figures.assemble import Drawn
    from ema_lab.reports.figures.gallery import Panel

DETECTION = "detection"
SCORE, IOU = 0.25, 0.5  # thresholds of shown detections, and of hits
LAID = "laid over the image, each from 0 (dark) to 1 (bright)."


def draw_gallery(
    ablation: str | Path | Ablation,
    options: GalleryOptions | None = None,
    *,
    only: Conditions | None = None,
    store: Path | str = DEFAULT_STORE,
    data: Path | str = DEFAULT_DATA,
) -> tuple["Drawn", ...]:
    """Draw attention-gate maps and Grad-CAM of each row's finished run, on the same test images.

    Rows without a finished run are empty, and the caption names them. With `untrained` each row's model is
    shown as its training starts, and labelled so; no run is needed. Detectors have two figures: `gallery`
    with the detections, and `maps` with gates and Grad-CAM.

    Args:
        ablation: A path, the name of a definition, or a loaded ablation.
        options: Images, seed, layer, module and thresholds, and whether the models are untrained.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        store: Folder of the runs.
        data: Folder of the data sets.

    Raises:
        EmaLabError: If no run of the seed is done, or an image, a layer or a module does not exist.
    """
    options = options or GalleryOptions()
    chosen = selected(ablation, only)
    cells = {name: cell for name, row in chosen.rows().items() for cell in row if cell.seed == options.seed}
    if not cells:
        raise SpecError(f"{chosen.name} has no cell of seed {options.seed}")
    models = UntrainedModels(Path(data)) if options.untrained else FinishedRuns(existing_store(store))
    return _Gallery(chosen.name, cells, options, models, Path(data)).drawn()


@dataclass(frozen=True)
class _Gallery:
    """One cell per row of an ablation, all of one seed."""

    name: str
    cells: Mapping[str, Cell]
    options: GalleryOptions
    models: ShownModels
    data: Path

    def drawn(self) -> tuple["Drawn", ...]:
        from ema_lab.reports.figures.assemble import Drawn
        from ema_lab.reports.figures.gallery import draw_gallery

        self._check()
        if self.task == DETECTION:
            return self._drawn_scenes()
        for option, value in (("--score", self.options.score), ("--iou", self.options.iou)):
            if value is not None:
                raise SpecError(f"{option} changes nothing: {self.name} trains classifiers, not detectors")
        layer = self.options.target_layer or _last_stage(next(iter(self.with_model.values())))
        labels, pixels = self._images()
        panels = self._panels(layer)
        titles = [
            f"#{number}: class {label}" for number, label in zip(self.options.images, labels, strict=True)
        ]
        text = f"{self._gate_text()} Grad-CAM of the image's own class at {layer}, {LAID}"
        return (Drawn("gallery", draw_gallery(pixels, titles, panels), self._caption(text)),)

    def _drawn_scenes(self) -> tuple["Drawn", ...]:
        """Draw detections, and the gates and Grad-CAM of detectors."""
        from ema_lab.reports.figures.assemble import Drawn
        from ema_lab.reports.figures.gallery import draw_gallery
        from ema_lab.reports.figures.scenes import MOST_WRITTEN, draw_scenes
        from ema_lab.workflow.look.scene_gallery import SceneGallery

        options = self.options
        score = SCORE if options.score is None else options.score
        iou = IOU if options.iou is None else options.iou
        scenes = SceneGallery(self.cells, self.models, self.data, options, (score, iou))
        boxes = (
            f"Detections with a score of {score:g} or more, {self.models.detections}. Hit: it takes, by "
            f"falling score, a free box of its class with an IoU of at least {iou:g}; false alarm: it takes "
            "none; miss: a box that none takes. Beside a detection: class and score in percent, in panels "
            f"of at most {MOST_WRITTEN} boxes."
        )
        panels = scenes.maps()
        maps = (
            f"{self._gate_text()} Grad-CAM of all scores of {score:g} or more (without any, of the greatest) "
            f"at {scenes.layer}, {LAID}"
        )
        return (
            Drawn(
                "gallery", draw_scenes(scenes.images(), scenes.titles, scenes.panels()), self._caption(boxes)
            ),
            Drawn("maps", draw_gallery(scenes.canvases(), scenes.titles, panels), self._caption(maps)),
        )

    @property
    def task(self) -> str:
        """Name of the task of the rows."""
        return next(iter(self.cells.values())).spec.data.facts.task

    @cached_property
    def with_model(self) -> dict[str, Cell]:
        """Cells that have a model to show, by row."""
        return {name: cell for name, cell in self.cells.items() if self.models.has(cell)}

    def _check(self) -> None:
        tasks = {cell.spec.data.facts.task for cell in self.cells.values()}
        if other := tasks - {DEFAULT_TASK, DETECTION}:
            raise SpecError(f"a gallery shows classifiers and detectors, and {self.name} trains {min(other)}")
        self.models.check(self.name, self.options.seed, self.cells)
        try:
            import pytorch_grad_cam  # noqa: F401
        except ImportError:
            raise SpecError("Grad-CAM needs the extra gallery: pip install 'ema-lab[gallery]'") from None
        if len({repr(cell.spec.data.resolved()) for cell in self.cells.values()}) > 1:
            raise SpecError("the rows have different data: choose those of one data set with --only")

    def _images(self) -> tuple[list[int], Any]:
        """Return the labels of the images, and their pixels (B, H, W, C) from 0 to 1."""
        import torch

        from ema_lab.data.module import ImageData

        numbers = self.options.images
        test = ImageData(next(iter(self.with_model.values())).spec, self.data).splits.test
        if max(numbers) >= len(test.labels):
            raise SpecError(
                f"--images: the test split has {number_of(len(test.labels), 'image')}, got {max(numbers)}"
            )
        indices = torch.tensor(numbers)
        return test.labels[indices].tolist(), (test.whole(indices).permute(0, 2, 3, 1) / 255).numpy()

    def _panels(self, layer: str) -> list["Panel"]:
        """Return a panel for each row, empty for a row without a model.

        Raises:
            SpecError: If no model has the module.
        """
        import torch

        from ema_lab.data.module import ImageData
        from ema_lab.gallery.maps import attention_names, gate_of, grad_cam
        from ema_lab.reports.figures.gallery import Panel

        module, indices = self.options.module, torch.tensor(self.options.images)
        panels: list[Panel] = []
        attentions: list[str] = []
        for name, cell in self.cells.items():
            label = self.models.label(name, cell)
            if name not in self.with_model:
                panels.append(Panel(label, None, None))
                continue
            source = ImageData(cell.spec, self.data)  # normalised as its recipe says
            test = source.splits.test
            model, inputs = self.models.model(cell), source.normalised(test.whole(indices))
            cam = grad_cam(model, inputs, test.labels[indices], layer)
            panels.append(Panel(label, gate_of(model, inputs, module), cam))
            attentions += attention_names(model)
        if module and all(panel.gate is None for panel in panels):
            raise SpecError(f"--module: {unknown_name('module', module, dict.fromkeys(attentions))}")
        return panels

    def _gate_text(self) -> str:
        module = self.options.module
        where = f"module {module}" if module else "the model's last attention module"
        return (
            f"Gate: sum of |output| over sum of |input| across channels, at each position of {where}; 1 "
            "changes nothing; one scale for all, from the least to the greatest value shown."
        )

    def _caption(self, text: str) -> str:
        """Return a caption: the content, the text, and sentences on the origin of the models."""
        images = ", ".join(map(str, self.options.images))
        shown = f"{self.name}, seed {self.options.seed}, test images {images}."
        return " ".join([shown, text, *self.models.remarks(self.cells)])


def _last_stage(cell: Cell) -> str:
    """Return the end of the backbone's last stage, where Grad-CAM is usually taken.

    Raises:
        SpecError: If the backbone's blocks are not known.
    """
    from ema_lab.models.build import named_backbone

    spec = cell.spec
    facts, name = spec.data.facts, spec.model.backbone
    backbone = named_backbone(name, facts.classes, facts.channels, options=spec.model.options, device="meta")
    ends = backbone.where("stage_end") or backbone.where("stage_end.v2")
    if not ends:
        raise SpecError(f"the stages of {name} are not known: name a layer with --target-layer")
    return ends[-1]
