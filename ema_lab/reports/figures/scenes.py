"""Gallery of detections: images across; the truth and each variant's hits, misses and false alarms down."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ema_lab.reports.figures.fit import fitted, line_inches, lines_of
from ema_lab.reports.figures.style import styled
from ema_lab.wording import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["truth", "hit", "miss", "false alarm", "ignored"]
# Okabe and Ito's colours, each with a line style of its own, so that no kind is told by its colour alone.
LOOKS: Mapping[Kind, tuple[str, Any]] = {
    "truth": ("#FFFFFF", "-"),
    "hit": ("#2BD9A0", "-"),
    "miss": ("#F0E442", (0, (3, 1.5))),
    "false alarm": ("#FF7A3C", (0, (1, 1))),
    "ignored": ("#BBBBBB", (0, (5, 1.5, 1, 1.5))),
}
NAME = 80  # width limit of row names, in points
PANEL_INCHES = 1.45
MOST_WRITTEN = 12  # boxes of a panel up to which each has its class and score
HALO = "#000000"


@dataclass(frozen=True)
class Box:
    """Box in an image's pixels, (x1, y1, x2, y2), with its label and its kind."""

    corners: tuple[float, float, float, float]
    label: str
    kind: Kind


@dataclass(frozen=True)
class ScenePanel:
    """Boxes of a variant by image; None without a run."""

    name: str
    boxes: Sequence[Sequence[Box]] | None


def draw_scenes(images: Sequence[Any], titles: Sequence[str], panels: Sequence[ScenePanel]) -> "Figure":
    """Draw images, (H, W, 3) from 0 to 1, with the boxes of each panel; the first panel is on top."""
    from matplotlib.figure import Figure

    with styled():
        names = [fitted(panel.name, NAME) for panel in panels]
        tallest = max(image.shape[0] / image.shape[1] for image in images)
        tall = max(PANEL_INCHES * min(1.5, tallest), line_inches() * max(map(lines_of, names))) + 0.18
        size = (PANEL_INCHES * len(images) + NAME / 72 + 0.2, tall * len(panels) + 0.55)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(len(panels), len(images), squeeze=False)
        for panel, name, line in zip(panels, names, grid, strict=True):
            for number, (axes, image) in enumerate(zip(line, images, strict=True)):
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.spines[:].set_visible(False)
                axes.imshow(image, vmin=0, vmax=1)
                if panel.boxes is None:
                    _veil(axes)
                else:
                    _draw_boxes(axes, panel.boxes[number])
                    axes.set_xlabel(counts_text(panel.boxes[number]), fontsize=6, labelpad=2)
            line[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title, fontsize=7)
        _draw_kinds(figure, panels)
    return figure


def counts_text(boxes: Sequence[Box]) -> str:
    """Return the numbers of a panel, such as `3 hits, 1 missed, 2 false`; of the truth, its boxes."""
    counts = Counter(box.kind for box in boxes)
    if set(counts) <= {"truth", "ignored"}:
        return f"{counts['truth']} box" + "es" * (counts["truth"] != 1)
    hits = number_of(counts["hit"], "hit")
    return f"{hits}, {counts['miss']} missed, {counts['false alarm']} false"


def _draw_boxes(axes: Any, boxes: Sequence[Box]) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    is_written = len(boxes) <= MOST_WRITTEN
    for box in boxes:
        colour, line = LOOKS[box.kind]
        left, top, right, bottom = box.corners
        patch = Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linestyle=line
        )
        patch.set(linewidth=1.1, path_effects=[withStroke(linewidth=2.0, foreground=HALO)])
        axes.add_patch(patch)
        if is_written and box.label and box.kind != "ignored":
            _write_label(axes, box)


def _write_label(axes: Any, box: Box) -> None:
    """Write a box's label at the corner of its kind, so that labels of overlapping boxes stay apart.

    Truth and hits have theirs at the top left, false alarms at the top right, misses at the bottom left; at
    the image's edge a label moves inside the box.
    """
    from matplotlib.patheffects import withStroke

    height = axes.get_ylim()[0] - axes.get_ylim()[1]
    left, top, right, bottom = box.corners
    is_below = box.kind == "miss"
    space = (axes.get_ylim()[0] - bottom) if is_below else (top - axes.get_ylim()[1])
    is_outside = space > 0.08 * height
    is_right = box.kind == "false alarm"
    axes.annotate(
        box.label, (right if is_right else left, bottom if is_below else top),
        (-1 if is_right and not is_outside else 0 if is_right else 1, 1 if is_below != is_outside else -1),
        textcoords="offset points", ha="right" if is_right else "left",
        va="bottom" if is_below != is_outside else "top", fontsize=4.8, color=LOOKS[box.kind][0],
        path_effects=[withStroke(linewidth=1.3, foreground=HALO)], annotation_clip=False,
    )  # fmt: skip


def _veil(axes: Any) -> None:
    axes.images[0].set_alpha(0.25)
    axes.text(0.5, 0.5, "no run", ha="center", va="center", transform=axes.transAxes, fontsize=6.5)


def _draw_kinds(figure: "Figure", panels: Sequence[ScenePanel]) -> None:
    """Draw a legend of the kinds that the figure has, below it, each with its dark edge."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    drawn = {box.kind for panel in panels for boxes in panel.boxes or () for box in boxes}
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line, linewidth=1.6, label=kind,
            path_effects=[withStroke(linewidth=2.8, foreground=HALO)],
        )
        for kind, (colour, line) in LOOKS.items()
        if kind in drawn
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncol=len(handles), handlelength=2.6)
