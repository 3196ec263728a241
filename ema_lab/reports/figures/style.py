"""How every figure looks, which colour a module has, and files whose bytes depend on nothing else."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.experiments.ablation import Ablation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.3
# Okabe and Ito's palette, without its yellow, which is hardly seen on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# A module's place here is its look in every figure: new names are added at the end only.
MODULES = (
    "none", "ema", "cbam", "se", "eca", "ca", "sa", "bam", "gam", "gc", "ge", "nam", "simam", "triplet",
    "identity", "random_gate", "matched", "frozen",
)  # fmt: skip
# matplotlib's version stays in the files: another one draws other bytes, and `report --check` must know.
FILES: Mapping[str, Mapping[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
RC: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 7.5, "axes.labelsize": 7.5, "axes.titlesize": 8,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "axes.linewidth": 0.6, "lines.linewidth": 1.1, "lines.markersize": 4, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD", "svg.hashsalt": "ema-lab", "pdf.fonttype": 42, "savefig.dpi": 300,
    "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A colour and a marker."""

    colour: str
    marker: str


def look(place: int) -> Look:
    """Return the look at a place: seven colours, then the same ones with other markers."""
    turn, colour = divmod(place, len(COLOURS))
    return Look(COLOURS[colour], MARKERS[(colour + 3 * turn) % len(MARKERS)])


def looks_of(ablation: Ablation) -> dict[str, Look]:
    """Return each row's look: the first row of a module has the module's, the same in every figure.

    Further rows of that module take places that no module of the ablation has, in the file's order.
    """
    modules = {row: cells[0].spec.model.attention.name for row, cells in ablation.rows().items()}
    names = [*MODULES, *sorted(set(modules.values()) - set(MODULES))]
    taken = {names.index(name) for name in modules.values()}
    free = (place for place in range(len(names) + len(modules)) if place not in taken)
    looks: dict[str, Look] = {}
    seen: set[str] = set()
    for row, name in modules.items():
        looks[row] = look(next(free) if name in seen else names.index(name))
        seen.add(name)
    return looks


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write a figure as PDF, SVG and PNG; the same figure gives the same bytes."""
    paths = []
    for suffix, metadata in FILES.items():
        content = io.BytesIO()
        with styled():
            figure.savefig(content, format=suffix, metadata=dict(metadata))
        paths.append(folder / f"{name}.{suffix}")
        paths[-1].write_bytes(content.getvalue())
    return paths
