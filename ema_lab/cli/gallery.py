"""The command that shows what the trained modules look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.output import DEFAULT_DATA, DEFAULT_STORE, AblationName, Data, Store, make_folder, say
from ema_lab.cli.selection import Only, selected
from ema_lab.errors import SpecError
from ema_lab.experiments.grid import Cell
from ema_lab.experiments.staleness import Staleness
from ema_lab.experiments.store import RunStore


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(gallery)


def gallery(
    ablation: AblationName,
    out: Annotated[Path, typer.Option("--out", help="Folder for gallery.pdf, .svg, .png and .txt.")],
    target_layer: Annotated[
        str | None,
        typer.Option("--target-layer", help="The layer of Grad-CAM, for all; by default the last stage."),
    ] = None,
    attention: Annotated[
        str,
        typer.Option("--attention", help="Whose gate: `last`, a number from 1, or a module's name."),
    ] = "last",
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
    _check_images(cells, numbers)
    runs = RunStore(store)
    done = {name: cell for name, cell in cells.items() if runs.state(cell.run_id) == "done"}
    if not done:
        raise SpecError(f"no run of {chosen.name} with seed {seed} is done (store {store})")
    layer = target_layer or _last_stage(done)
    pixels, labels, panels = _look(cells, done, runs, data, numbers, layer, attention)
    from ema_lab.reports.figures.build import Drawn
    from ema_lab.reports.figures.gallery import draw_gallery

    words = [f"#{number}: class {label}" for number, label in zip(numbers, labels, strict=True)]
    caption = (
        f"{chosen.name}, seed {seed}, test images {', '.join(map(str, numbers))}. Gate: sum of |output| over "
        f"sum of |input| across channels, at each position of {_said(attention)}; 1 changes nothing; one "
        f"scale for all. Grad-CAM of the image's own class at {layer}, each image from 0 to 1."
        + _standing(cells, done, runs)
    )
    make_folder(out)
    for path in Drawn("gallery", draw_gallery(pixels, words, panels), caption).write(out):
        print(path)
    say(caption)


def _said(attention: str) -> str:
    if attention == "last":
        return "the model's last attention module"
    is_number = attention.isascii() and attention.isdecimal()
    return f"the model's attention module number {attention}" if is_number else attention


def _standing(cells: dict[str, Cell], done: dict[str, Cell], runs: RunStore) -> str:
    """Name the rows without a run, and those whose source has changed since theirs."""
    holes = [name for name in cells if name not in done]
    words = f" Not there: {', '.join(holes)}." if holes else ""
    staleness = Staleness()
    parts = {name: staleness.parts(cell.spec, runs.record(cell.run_id)) for name, cell in done.items()}
    stale = [f"{name} ({', '.join(changed)})" for name, changed in parts.items() if changed]
    return words + (f" Stale, since their source has changed: {', '.join(stale)}." if stale else "")


def _check_images(cells: dict[str, Cell], numbers: list[int]) -> None:
    if len({repr(cell.spec.data.resolved()) for cell in cells.values()}) > 1:
        raise SpecError("the rows have different data: choose those of one data set with --only")
    count = next(iter(cells.values())).spec.data.facts.test_images
    if max(numbers) >= count:
        raise SpecError(f"--images: the test split has {count} images, from 0, got {max(numbers)}")


def _last_stage(done: dict[str, Cell]) -> str:
    """Return the layer at the end of the backbone's last stage, which all rows must share."""
    _require_grad_cam()
    from ema_lab.gallery.maps import last_stage

    found = {name: last_stage(cell.spec) for name, cell in done.items()}
    layers = set(found.values())
    layer = layers.pop()
    if layers or layer is None:
        said = ", ".join(f"{name}: {layer or 'none'}" for name, layer in found.items())
        raise SpecError(f"--target-layer is needed: the rows' last stages are not one layer ({said})")
    return layer


def _require_grad_cam() -> None:
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        raise SpecError("Grad-CAM needs the extra gallery: pip install 'ema-lab[gallery]'") from None


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise SpecError(f"--images must be whole numbers from 0 by commas, got {text!r}")
    return [int(word) for word in words]


def _look(
    cells: dict[str, Cell],
    done: dict[str, Cell],
    runs: RunStore,
    data: Path,
    numbers: list[int],
    layer: str,
    attention: str,
) -> tuple[Any, list[int], list[Any]]:
    """Return the images (B, H, W, C) from 0 to 1, their labels, and a panel for each row.

    Raises:
        SpecError: If no model has that layer, or none has that attention module.
    """
    _require_grad_cam()
    import torch

    from ema_lab.data.module import ImageData
    from ema_lab.gallery.maps import attention_names, chosen_attention, gate_of, grad_cam
    from ema_lab.reports.figures.gallery import Panel

    indices = torch.tensor(numbers)
    test = ImageData(next(iter(done.values())).spec, data).splits.test
    pixels, labels = test.whole(indices), test.labels[indices]
    panels, there = [], dict[str, list[str]]()
    for name, cell in cells.items():
        if name not in done:
            panels.append(Panel(name, None, None))
            continue
        model, inputs = runs.load_model(cell.run_id), ImageData(cell.spec, data).normalised(pixels)
        there[name] = attention_names(model)
        module = chosen_attention(model, attention)
        gate = gate_of(model, inputs, module) if module else None
        panels.append(Panel(name, gate, grad_cam(model, inputs, labels, layer)))
    if any(there.values()) and all(panel.gate is None for panel in panels):
        known = "; ".join(f"{name}: {', '.join(names)}" for name, names in there.items() if names)
        raise SpecError(f"--attention: no model has {attention!r}; take last, a number from 1, or of {known}")
    return (pixels.permute(0, 2, 3, 1) / 255).numpy(), labels.tolist(), panels
