"""Command `gallery`: draw which parts of an image the trained modules look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.groups import expanded
from ema_lab.cli.options import AblationName, Data, Only, Set, Store
from ema_lab.cli.output import put, say
from ema_lab.errors import SpecError
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.folders import make_folder
from ema_lab.workflow.look.gallery import draw_gallery
from ema_lab.workflow.look.gallery_options import GalleryOptions
from ema_lab.workflow.selection import selected


@dataclass(frozen=True)
class PanelOptions:
    """Choice of images, runs and submodules."""

    target_layer: Annotated[
        str | None,
        typer.Option(
            "--target-layer",
            help="The layer of Grad-CAM for all rows; by default the last stage, and of a detector the layer "
            "that its finest head reads.",
        ),
    ] = None
    module: Annotated[
        str | None,
        typer.Option(
            "--module", help="Name of the module whose gate is drawn; by default the last attention module."
        ),
    ] = None
    images: Annotated[str, typer.Option("--images", help="Numbers of test images, separated by commas.")] = (
        "0,1,2"
    )
    seed: Annotated[int, typer.Option("--seed", help="Seed of the runs.")] = 0
    score: Annotated[
        float | None,
        typer.Option("--score", min=0, max=1, help="Least score of a shown detection.  [default: 0.25]"),
    ] = None
    iou: Annotated[
        float | None,
        typer.Option("--iou", min=0, max=1, help="Least IoU of a hit with its box.  [default: 0.5]"),
    ] = None

    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            help="Show the models as their training starts: with start or random weights. Needs no run.",
        ),
    ] = False

    def options(self) -> GalleryOptions:
        """Return the choice.

        Raises:
            SpecError: If --images is not a list of numbers.
        """
        numbers = _read_numbers(self.images)
        return GalleryOptions(
            numbers, self.seed, self.target_layer, self.module, self.score, self.iou, self.untrained
        )


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(gallery))


def gallery(
    ablation: AblationName,
    out: Annotated[Path, typer.Option("--out", help="Folder for gallery.pdf, .svg, .png and .txt.")],
    panels: PanelOptions,
    only: Only = None,
    changes: Set = None,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
) -> None:
    """Draw gate maps and Grad-CAM of finished runs.

    One run of each row, on the same test images.

    For detectors, gallery.* has the detections (hits, misses and false alarms beside the truth), and maps.*
    the gates and Grad-CAM.

    Examples: ema-lab gallery quickstart --images 0,7 --out out/gallery;
    ema-lab gallery quickstart --untrained --out out/start
    """
    from ema_lab.reports.figures.assemble import remarks

    drawn = draw_gallery(
        selected(ablation, changes=changes), panels.options(), only=only, store=store, data=data
    )
    make_folder(out)
    put("\n".join(str(path) for figure in drawn for path in figure.write(out)))
    say(*(figure.caption for figure in drawn), *remarks(drawn))


def _read_numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise SpecError(f"--images must be whole numbers from 0, separated by commas, got {text!r}")
    return [int(part) for part in parts]
