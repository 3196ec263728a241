"""Gallery: images across, and each variant's gate map and Grad-CAM down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ema_lab.reports.figures.fit import fitted, line_inches, lines_of
from ema_lab.reports.figures.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = 90  # width limit of row names, in points
GATE = "Gate: Σ|out| / Σ|in|"
VEIL = 0.5  # opacity of Grad-CAM over the image


@dataclass(frozen=True)
class Panel:
    """Maps of a variant: `gate` (B, h, w), None without attention, and `cam` (B, H, W).

    Both are None without a run.
    """

    name: str
    gate: Any
    cam: Any


def gate_range(panels: Sequence[Panel]) -> tuple[float, float] | None:
    """Return the least and the greatest gate of all rows, which share one scale; None without a gate."""
    import numpy as np

    gates = [panel.gate[np.isfinite(panel.gate)] for panel in panels if panel.gate is not None]
    values = np.concatenate(gates) if gates else np.empty(0)
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.01, high + 0.01)  # a colour scale needs two ends


def draw_gallery(images: Any, labels: Sequence[str], panels: Sequence[Panel]) -> "Figure":
    """Draw images (B, H, W, 1 or 3; 0 to 1) and a row per variant; missing maps say so.

    All gate maps share one scale, from the least to the greatest value drawn. Grad-CAM covers the image,
    scaled from 0 to 1 for each image.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    scale = gate_range(panels)
    with styled():
        names = [fitted(panel.name, NAME) for panel in panels]
        tall = max(0.62, line_inches() * max(map(lines_of, names)) + 0.04)
        size = (1.2 * len(images) + 1 + NAME / 72, tall * (1 + len(panels)) + 0.35)
        layout = ConstrainedLayoutEngine(w_pad=0.08)  # square panels move a little after layout
        figure = Figure(figsize=size, layout=layout, facecolor="white")
        grid = figure.subplots(1 + len(panels), 2 * len(images), squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[], box_aspect=1)
            axes.grid(False)
            axes.spines[:].set_visible(False)
        drawn_gate = None
        for i, image in enumerate(images):
            _draw_image(grid[0][2 * i], image)
            grid[0][2 * i].set_title(labels[i], fontsize=7)
            grid[0][2 * i + 1].axis("off")
            for j, panel in enumerate(panels, start=1):
                _draw_cam(grid[j][2 * i + 1], panel, i, image)
                drawn_gate = _draw_gate(grid[j][2 * i], panel, i, scale) or drawn_gate
            grid[1][2 * i].set_title("gate", fontsize=7)
            grid[1][2 * i + 1].set_title("Grad-CAM", fontsize=7)
        for j, name in enumerate(names, start=1):
            grid[j][0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
        if drawn_gate is not None:
            figure.colorbar(drawn_gate, ax=grid, label=GATE, shrink=0.6, aspect=25)
    return figure


def _draw_image(axes: Any, image: Any) -> None:
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)


def _draw_cam(axes: Any, panel: Panel, index: int, image: Any) -> None:
    if panel.cam is None:
        _say(axes, "no run")
        return
    _draw_image(axes, image)
    axes.imshow(panel.cam[index], cmap="inferno", vmin=0, vmax=1, alpha=VEIL)


def _draw_gate(axes: Any, panel: Panel, index: int, scale: tuple[float, float] | None) -> Any:
    """Draw a variant's gate of an image; return the image for the colour bar, or None without a gate."""
    if panel.gate is None or scale is None:
        _say(axes, "no run" if panel.cam is None else "no gate")
        return None
    return axes.imshow(panel.gate[index], cmap="viridis", vmin=scale[0], vmax=scale[1])


def _say(axes: Any, text: str) -> None:
    axes.set_facecolor("#EEEEEE")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=6.5)
