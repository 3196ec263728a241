"""The command that shows what the trained modules look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.output import DEFAULT_DATA, DEFAULT_STORE, AblationName, Data, Store, make_folder, say
from ema_lab.cli.selection import Only, selected
from ema_lab.errors import SpecError
from ema_lab.experiments.grid import Cell
from ema_lab.experiments.store import RunStore


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(gallery)


def gallery(
    ablation: AblationName,
    out: Annotated[Path, typer.Option("--out", help="Folder for gallery.pdf, .svg, .png and .txt.")],
    target_layer: Annotated[
        str, typer.Option("--target-layer", help="The layer of Grad-CAM, the same for all.")
    ],
    images: Annotated[str, typer.Option("--images", help="Numbers of test images, by commas.")] = "0,1,2",
    seed: Annotated[int, typer.Option("--seed", help="Whose runs are shown.")] = 0,
    only: Only = None,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
) -> None:
    """Draw attention-gate maps and Grad-CAM of each row's finished run, on the same test images.

    Example: ema-lab gallery quickstart --target-layer layer3 --images 0,7 --out out/gallery
    """
    chosen = selected(ablation, only, None)
    cells = {name: cell for name, row in chosen.rows().items() for cell in row if cell.seed == seed}
    if not cells:
        raise SpecError(f"{chosen.name} has no cell of seed {seed}")
    runs = RunStore(store)
    done = {name: runs.state(cell.run_id) == "done" for name, cell in cells.items()}
    if not any(done.values()):
        raise SpecError(f"no run of {chosen.name} with seed {seed} is done (store {store})")
    numbers = _numbers(images)
    pixels, labels, panels = _look(cells, done, runs, data, numbers, target_layer)
    from ema_lab.reports.figures.build import Drawn
    from ema_lab.reports.figures.gallery import draw_gallery

    words = [f"#{number}: class {label}" for number, label in zip(numbers, labels, strict=True)]
    holes = [name for name, is_done in done.items() if not is_done]
    caption = (
        f"{chosen.name}, seed {seed}, test images {', '.join(map(str, numbers))}. Gate: sum of |output| over "
        "sum of |input| across channels, at each position of the model's last attention module; 1 changes "
        f"nothing; one scale for all. Grad-CAM of the image's own class at {target_layer}, each image from "
        "0 to 1." + (f" Not there: {', '.join(holes)}." if holes else "")
    )
    make_folder(out)
    for path in Drawn("gallery", draw_gallery(pixels, words, panels), caption).write(out):
        print(path)
    say(caption)


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise SpecError(f"--images must be whole numbers from 0 by commas, got {text!r}")
    return [int(word) for word in words]


def _look(
    cells: dict[str, Cell], done: dict[str, bool], runs: RunStore, data: Path, numbers: list[int], layer: str
) -> tuple[Any, list[int], list[Any]]:
    """Return the images (B, H, W, C) from 0 to 1, their labels, and a panel for each row."""
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        raise SpecError("Grad-CAM needs the extra gallery: pip install 'ema-lab[gallery]'") from None
    import torch

    from ema_lab.data.module import ImageData
    from ema_lab.gallery.maps import grad_cam, last_gate
    from ema_lab.reports.figures.gallery import Panel

    if len({repr(cell.spec.data.resolved()) for cell in cells.values()}) > 1:
        raise SpecError("the rows have different data: choose those of one data set with --only")
    panels, pixels, labels = [], None, []
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
        model, inputs = runs.load_model(cell.run_id), source.normalised(pixels)
        cam = grad_cam(model, inputs, test.labels[indices], layer)
        panels.append(Panel(name, last_gate(model, inputs), cam))
    assert pixels is not None  # some run is done
    return (pixels.permute(0, 2, 3, 1) / 255).numpy(), labels, panels
