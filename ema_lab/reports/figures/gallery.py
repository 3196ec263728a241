"""A gallery: the same images down, each variant's gate map and Grad-CAM across."""

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
    """Draw images (B, H, W, 1 or 3; 0 to 1) and two columns per variant; what is not there says so.

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
    count, columns = len(images), 1 + 2 * len(panels)
    with styled():
        size = (0.8 * columns + 0.6, 0.8 * count + 0.75)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(count, columns, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        shown = None
        for i in range(count):
            grid[i][0].imshow(images[i].squeeze(), cmap="gray", vmin=0, vmax=1)
            grid[i][0].set_ylabel(labels[i], fontsize=7)
            for j, panel in enumerate(panels):
                gate_axes, cam_axes = grid[i][1 + 2 * j], grid[i][2 + 2 * j]
                if panel.gate is None:
                    _say(gate_axes, "no run" if panel.cam is None else "no gate")
                else:
                    shown = gate_axes.imshow(panel.gate[i], cmap="RdBu_r", vmin=1 - reach, vmax=1 + reach)
                if panel.cam is None:
                    _say(cam_axes, "no run")
                else:
                    cam_axes.imshow(panel.cam[i], cmap="cividis", vmin=0, vmax=1)
        grid[0][0].set_title("image", fontsize=7)
        for j, panel in enumerate(panels):
            grid[0][1 + 2 * j].set_title(f"{panel.name}\ngate", fontsize=7)
            grid[0][2 + 2 * j].set_title("\nGrad-CAM", fontsize=7)
        if shown is not None:
            figure.colorbar(shown, ax=grid, label="Σ|out| / Σ|in|", shrink=0.8, aspect=25)
    return figure


def _say(axes: Any, text: str) -> None:
    axes.set_facecolor("#EEEEEE")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=6.5)
