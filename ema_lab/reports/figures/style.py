"""Style of all figures: colours per module, fonts, and reproducible files."""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.3
# Okabe and Ito's palette without its yellow, which is hard to see on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
FONT = "DejaVu Sans"
FALLBACKS = (  # installed fonts among these draw characters that FONT lacks
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans", "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans", "Arial Unicode MS",
)  # fmt: skip
# A module's index here determines its look in every figure: append new names only at the end.
MODULES = (
    "none", "ema", "cbam", "se", "eca", "ca", "sa", "bam", "gam", "gc", "ge", "nam", "simam", "triplet",
    "identity", "random_gate", "matched", "frozen", "zero_start",
)  # fmt: skip
# matplotlib's version stays in the files: another one draws other bytes, and `report --check` must know.
FILES: Mapping[str, Mapping[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
RC: Mapping[Any, Any] = {
    "font.size": 7.5, "axes.labelsize": 7.5, "axes.titlesize": 8,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "axes.linewidth": 0.6, "lines.linewidth": 1.1, "lines.markersize": 4, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD", "svg.hashsalt": "ema-lab", "pdf.fonttype": 42, "savefig.dpi": 300,
    "text.parse_math": False,
}  # fmt: skip


FONT_POINTS = 7.5  # of axis labels; ticks, legends and panels are a little smaller
SIZED: tuple[Any, ...] = (
    *("font.size", "axes.labelsize", "axes.titlesize"),
    *("xtick.labelsize", "ytick.labelsize", "legend.fontsize"),
)


@dataclass(frozen=True)
class Form:
    """Size of a figure in inches, its font in points, and the place of its legend.

    `height` is None for as high as needed. `legend` is empty for the usual place.
    """

    width: float = COLUMN_INCHES
    height: float | None = None
    font: float = FONT_POINTS
    legend: str = ""


USUAL = Form()


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style, by matplotlib's names."""

    colour: str
    marker: str
    line: str = "-"


def look(index: int) -> Look:
    """Return the look with an index: seven colours, then the same colours with other markers and lines.

    The first 196 looks are distinct.
    """
    turn, colour = divmod(index, len(COLOURS))
    marker = MARKERS[(colour + 3 * turn) % len(MARKERS)]
    return Look(COLOURS[colour], marker, LINES[turn % len(LINES)])


def looks_of(modules: Mapping[str, str]) -> dict[str, Look]:
    """Return the look of each row; no two rows share a colour while one is free.

    The first row of a module gets the module's own look, equal in every figure and report. Exception: an
    earlier module in `MODULES` has taken the colour. All other rows get the least used colours.

    Args:
        modules: Attention module of each row, in the order of the file, so that looks do not change with
            results.
    """
    names = [*MODULES, *sorted(set(modules.values()) - set(MODULES))]
    firsts = {name: row for row, name in reversed(list(modules.items()))}
    indices: dict[str, int] = {}
    uses = [0] * len(COLOURS)
    for index in sorted(map(names.index, firsts)):
        if uses[index % len(COLOURS)] == 0:
            indices[firsts[names[index]]] = index
            uses[index % len(COLOURS)] = 1
    taken = set(indices.values())
    for row in modules:
        if row not in indices:
            colour = uses.index(min(uses))
            indices[row] = next(index for index in count(colour, len(COLOURS)) if index not in taken)
            taken.add(indices[row])
            uses[colour] += 1
    return {row: look(indices[row]) for row in modules}


@contextmanager
def styled(form: Form = USUAL) -> Iterator[None]:
    """Draw in our style, whatever the user's matplotlibrc says, with the width and the font of a form.

    Missing glyphs raise no warning; see `unknown_characters`.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        matplotlib.rcParams.update({key: RC[key] * form.font / FONT_POINTS for key in SIZED})
        matplotlib.rcParams["figure.figsize"] = (form.width, form.height or form.width)
        matplotlib.rcParams["font.family"] = list(font_families())
        yield


@cache
def font_families() -> tuple[str, ...]:
    """Return our font and the installed fallback fonts."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return (FONT, *(name for name in FALLBACKS if name in installed))


def unknown_characters(figure: "Figure") -> str:
    """Return the characters of a figure's texts that no font here has, each once; they are drawn as boxes."""
    from matplotlib.font_manager import findfont, get_font
    from matplotlib.text import Text

    known = {code for name in font_families() for code in get_font(findfont(name)).get_charmap()}
    texts = "".join(text.get_text() for text in figure.findobj(Text))
    return "".join(sign for sign in dict.fromkeys(texts) if sign.isprintable() and ord(sign) not in known)


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write a figure as PDF, SVG and PNG; equal figures give equal bytes."""
    paths = []
    for suffix in FILES:
        paths.append(folder / f"{name}.{suffix}")
        paths[-1].write_bytes(picture(figure, suffix))
    return paths


def picture(figure: "Figure", suffix: str) -> bytes:
    """Return a figure as the content of a PDF, SVG or PNG file."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format=suffix, metadata=dict(FILES[suffix]))
    return content.getvalue()
