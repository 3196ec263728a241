"""A gallery: the same images across, each variant's gate map and Grad-CAM down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ema_lab.reports.figures.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """A variant's maps: `gate` (B, h, w) or None without attention, `cam` (B, H, W), both None for a hole."""

    name: str
    gate: Any
    cam: Any


def draw_gallery(images: Any, labels: Sequence[str], panels: Sequence[Panel]) -> "Figure":
    """Draw images (B, H, W, 1 or 3; 0 to 1) and a row per variant; what is not there says so.

    All gate maps have one scale, centred on 1 (nothing changed); Grad-CAM is from 0 to 1 per image.
    """
    import numpy as np
    from matplotlib.figure import Figure

    gates = [panel.gate for panel in panels if panel.gate is not None]
    reach = max(
        [float(np.nanmax(np.abs(gate - 1))) for gate in gates if np.isfinite(gate).any()], default=1.0
    )
    if not math.isfinite(reach) or reach == 0:
        reach = 1.0
    with styled():
        size = (1.2 * len(images) + 1.4, 0.62 * (1 + len(panels)) + 0.2)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(1 + len(panels), 2 * len(images), squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[], box_aspect=1)
            axes.grid(False)
            axes.spines[:].set_visible(False)
        shown = None
        for i, image in enumerate(images):
            grid[0][2 * i].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
            grid[0][2 * i].set_title(labels[i], fontsize=7)
            grid[0][2 * i + 1].axis("off")
            for j, panel in enumerate(panels, start=1):
                shown = _draw_pair(grid[j][2 * i], grid[j][2 * i + 1], panel, i, reach) or shown
            grid[1][2 * i].set_title("gate", fontsize=7)
            grid[1][2 * i + 1].set_title("Grad-CAM", fontsize=7)
        for j, panel in enumerate(panels, start=1):
            grid[j][0].set_ylabel(panel.name, fontsize=7, rotation=0, ha="right", va="center")
        if shown is not None:
            figure.colorbar(shown, ax=grid, label="Σ|out| / Σ|in|", shrink=0.6, aspect=25)
    return figure


def _draw_pair(gate_axes: Any, cam_axes: Any, panel: Panel, image: int, reach: float) -> Any:
    """Draw a variant's two maps of an image; return the gate's, or None without one."""
    if panel.cam is None:
        _say(cam_axes, "no run")
    else:
        cam_axes.imshow(panel.cam[image], cmap="cividis", vmin=0, vmax=1)
    if panel.gate is None:
        _say(gate_axes, "no run" if panel.cam is None else "no gate")
        return None
    return gate_axes.imshow(panel.gate[image], cmap="RdBu_r", vmin=1 - reach, vmax=1 + reach)


def _say(axes: Any, text: str) -> None:
    axes.set_facecolor("#EEEEEE")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=6.5)
