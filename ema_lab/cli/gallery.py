"""The command that shows what the trained modules look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.grid import Cell
from ema_lab.cli.options import AblationName, Data, Only, Store
from ema_lab.cli.output import make_folder, put, say
from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.selection import selected
from ema_lab.workflow.status import existing_store


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(gallery)


def gallery(
    ablation: AblationName,
    out: Annotated[Path, typer.Option("--out", help="Folder for gallery.pdf, .svg, .png and .txt.")],
    target_layer: Annotated[
        str | None,
        typer.Option("--target-layer", help="The layer of Grad-CAM for all rows; by default the last stage."),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option("--module", help="Whose gate is shown, by its name; by default the last attention's."),
    ] = None,
    images: Annotated[str, typer.Option("--images", help="Numbers of test images, by commas.")] = "0,1,2",
    seed: Annotated[int, typer.Option("--seed", help="Whose runs are shown.")] = 0,
    only: Only = None,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
) -> None:
    """Draw attention-gate maps and Grad-CAM of each row's finished run, on the same test images.

    Example: ema-lab gallery quickstart --images 0,7 --out out/gallery
    """
    numbers = _numbers(images)
    chosen = selected(ablation, only, None)
    cells = {name: cell for name, row in chosen.rows().items() for cell in row if cell.seed == seed}
    if not cells:
        raise SpecError(f"{chosen.name} has no cell of seed {seed}")
    runs = existing_store(store)
    done = {name: runs.state(cell.run_id) == "done" for name, cell in cells.items()}
    if other := {cell.spec.data.facts.task for cell in cells.values()} - {DEFAULT_TASK}:
        raise SpecError(f"a gallery shows classifiers, and {chosen.name} trains {min(other)}")
    if not any(done.values()):
        raise SpecError(f"no run of {chosen.name} with seed {seed} is done (store {store})")
    first = next(cell for name, cell in cells.items() if done[name])
    layer = target_layer or _last_stage(first)
    pixels, labels, panels = _look(cells, done, runs, data, numbers, layer, module)
    from ema_lab.reports.figures.assemble import Drawn, remarks
    from ema_lab.reports.figures.gallery import draw_gallery

    words = [f"#{number}: class {label}" for number, label in zip(numbers, labels, strict=True)]
    holes = [name for name, is_done in done.items() if not is_done]
    staleness = Staleness()
    stale = [
        name
        for name, cell in cells.items()
        if done[name] and staleness.parts(cell.spec, runs.record(cell.run_id))
    ]
    whose = f"module {module}" if module else "the model's last attention module"
    caption = (
        f"{chosen.name}, seed {seed}, test images {', '.join(map(str, numbers))}. Gate: sum of |output| over "
        f"sum of |input| across channels, at each position of {whose}; 1 changes "
        f"nothing; one scale for all, from the least to the greatest value shown. Grad-CAM of the image's "
        f"own class at {layer}, laid over the image, each from 0 (dark) to 1 (bright)."
        + (f" Not there: {', '.join(holes)}." if holes else "")
        + (f" Stale, as their source has changed since: {', '.join(stale)}." if stale else "")
    )
    make_folder(out)
    drawn = Drawn("gallery", draw_gallery(pixels, words, panels), caption)
    for path in drawn.write(out):
        put(path)
    say(caption, *remarks([drawn]))


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise SpecError(f"--images must be whole numbers from 0 by commas, got {text!r}")
    return [int(word) for word in words]


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


def _look(
    cells: dict[str, Cell],
    done: dict[str, bool],
    runs: RunStore,
    data: Path,
    numbers: list[int],
    layer: str,
    module: str | None,
) -> tuple[Any, list[int], list[Any]]:
    """Return the images (B, H, W, C) from 0 to 1, their labels, and a panel for each row."""
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        raise SpecError("Grad-CAM needs the extra gallery: pip install 'ema-lab[gallery]'") from None
    import torch

    from ema_lab.data.module import ImageData
    from ema_lab.gallery.maps import attention_names, gate_of, grad_cam
    from ema_lab.one_run.model import load_model
    from ema_lab.reports.figures.gallery import Panel

    if len({repr(cell.spec.data.resolved()) for cell in cells.values()}) > 1:
        raise SpecError("the rows have different data: choose those of one data set with --only")
    panels, pixels, labels = [], None, []
    known: list[str] = []
    for name, cell in cells.items():
        if not done[name]:
            panels.append(Panel(name, None, None))
            continue
        source = ImageData(cell.spec, data)
        test = source.splits.test
        if max(numbers) >= len(test.labels):
            raise SpecError(f"--images: the test split has {len(test.labels)} images, got {max(numbers)}")
        indices = torch.tensor(numbers)
        pixels, labels = test.whole(indices), test.labels[indices].tolist()
        model, inputs = load_model(cell.run_id, runs), source.normalised(pixels)
        cam = grad_cam(model, inputs, test.labels[indices], layer)
        gate = gate_of(model, inputs, module)
        known += attention_names(model)
        panels.append(Panel(name, gate, cam))
    if module and all(panel.gate is None for panel in panels):
        raise SpecError(f"--module: {unknown_name('module', module, dict.fromkeys(known))}")
    assert pixels is not None  # some run is done
    return (pixels.permute(0, 2, 3, 1) / 255).numpy(), labels, panels
