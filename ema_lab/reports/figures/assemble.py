"""Figures of a report, drawn from specs and records, with captions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.files import write_text
from ema_lab.measured.selection import Row
from ema_lab.reports.figures.drawer import Drawer
from ema_lab.reports.figures.numbers import NothingToDrawError
from ema_lab.reports.figures.style import (
    FILES,
    picture,
    save,
    unknown_characters,
)
from ema_lab.reports.report import latencies, with_task
from ema_lab.reports.row_order import report_rows
from ema_lab.specs.figure import (
    Figure,
    TradeoffFigure,
)
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Drawn:
    """Drawn figure with its caption; `drawing` is None where there is nothing to draw yet."""

    name: str
    drawing: "Drawing | None"
    caption: str

    def write(self, folder: Path) -> list[Path]:
        """Write PDF, SVG, PNG and the caption.

        Without a drawing, write only the caption and delete older pictures.
        """
        path = folder / f"{self.name}.txt"
        write_text(path, f"{self.caption}\n", durable=False)
        if self.drawing is not None:
            return [*save(self.drawing, folder, self.name), path]
        for ending in FILES:
            (folder / f"{self.name}.{ending}").unlink(missing_ok=True)
        return [path]

    def _repr_png_(self) -> bytes | None:
        """Return the figure as notebooks show it."""
        return None if self.drawing is None else picture(self.drawing, "png")


def remarks(figures: Sequence[Drawn]) -> list[str]:
    """Return messages for the user: figures not drawn, and characters that no font has."""
    messages = [f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None]
    signs = "".join(unknown_characters(figure.drawing) for figure in figures if figure.drawing is not None)
    if signs:
        missing, rule = "".join(dict.fromkeys(signs)), "they are drawn as boxes; install a font that has them"
        messages.append(f"figures: no font here has the characters {missing!r}: {rule}")
    return messages


def report_figures(report: ReportSpec, store: RunStore) -> list[Drawn]:
    """Draw all figures of a report from the records of a store.

    Raises:
        SpecError: If a figure needs a key that the ablations or their records lack.
    """
    if not report.figures:
        return []
    sections = []
    for ablation, rows in report_rows(report, store):
        if any(isinstance(figure, TradeoffFigure) and figure.cost == "latency" for figure in report.figures):
            timed = latencies(ablation, rows, store)
            rows = [replace(row, latency=timed.measured.get(row.name)) for row in rows] if timed else rows
        sections.append((ablation, rows))
    return draw_figures(report, sections, store)


def draw_figures(
    report: ReportSpec, sections: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
) -> list[Drawn]:
    """Draw all figures of a report from the rows of its ablations.

    Raises:
        SpecError: If a figure needs a key that the ablation or its records lack.
    """
    report = with_task(report, (ablation for ablation, _ in sections))
    drawn = []
    drawing: Drawing | None
    drawer = Drawer(report, sections, store)
    for number, figure in enumerate(report.figures):
        try:
            drawing, text = drawer.draw(figure)
        except NothingToDrawError as error:
            drawing, text = None, f"Not drawn: {error}."
        except SpecError as error:
            raise report.error_at(f"figure {figure.name}: {error}", "figures", number) from None
        title = figure_title(report, figure, drawer.ablation.name)
        caption = " ".join([title.rstrip(".") + ".", text, *drawer.run_sentences()])
        drawn.append(Drawn(figure.name, drawing, caption))
    return drawn


def figure_title(report: ReportSpec, figure: Figure, ablation: str) -> str:
    """Return a figure's title: its own, the report's, or the name of what it shows."""
    return figure.title or report.title or (report.name if report.ablations else ablation)
