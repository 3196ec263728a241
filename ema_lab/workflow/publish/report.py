"""Reports from Python: the same as the command `ema-lab report`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.errors import Problem, SpecError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.reports.check.compare import Comparison, compare
from ema_lab.reports.figures.assemble import Drawn, remarks, report_figures
from ema_lab.reports.files import FIGURES, PAGE, all_files, report_files, unmade_files
from ema_lab.reports.page.page import report_page
from ema_lab.reports.report import Report, build_report
from ema_lab.reports.usual import ablation_report
from ema_lab.specs.definition import definitions, find_definition, missing_definition
from ema_lab.specs.document import read_document
from ema_lab.specs.figure import FIGURE_KINDS, Figure
from ema_lab.specs.report import ReportError, ReportSpec, load_report
from ema_lab.specs.report_file import read_report
from ema_lab.store.store import RunStore
from ema_lab.store.survey import damage_lines
from ema_lab.tables.html import render_html
from ema_lab.tables.render import flat_records
from ema_lab.tables.table import Table
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store, make_folder
from ema_lab.workflow.selection import Changes, read_changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")


@dataclass(frozen=True)
class ReportFiles:
    """Files of a report, made but not written yet.

    Attributes:
        folder: Folder to write into.
        texts: Tables and page by file name.
        figures: Figures, for the folder `figures`.
        unmade: Files that an earlier report may have left, and that the current records do not give.
    """

    folder: Path
    texts: Mapping[str, str]
    figures: Sequence[Drawn]
    unmade: Sequence[str]

    @property
    def remarks(self) -> list[str]:
        """Messages about figures: those not drawn, and characters that no font has."""
        return remarks(self.figures)

    def write(self) -> list[Path]:
        """Write the files, remove those left over, and return the paths."""
        for name, text in self.texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        for name in self.unmade:  # a reader would take an older table for a current one
            (self.folder / name).unlink(missing_ok=True)
        drawn = [path for figure in self.figures for path in figure.write(self.folder / FIGURES)]
        return [*(self.folder / name for name in self.texts), *drawn]


@dataclass
class BuiltReport:
    """Report built from the records of a store.

    `problems`: one line for each column and figure that was left out because it is wrong.
    """

    spec: ReportSpec
    store: RunStore
    problems: list[str] = field(default_factory=list)

    @cached_property
    def report(self) -> Report:
        """Tables of the report."""
        return self._settled(lambda spec: build_report(spec, self.store))

    def _settled(self, make: Callable[[ReportSpec], T]) -> T:
        """Make a part of the report, leaving out wrong columns and figures, which `problems` lists."""
        while True:
            try:
                return make(self.spec)
            except ReportError as error:
                if (reduced := self.spec.without(error.key_path)) is None:
                    raise
                self.problems.append(str(error))
                self.spec = reduced

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables."""
        return self.report.tables

    def table(self) -> Table:
        """Return the first table."""
        return self.tables[0]

    def _repr_html_(self) -> str:
        """Return all tables as notebooks show them."""
        return "\n".join(map(render_html, self.tables))

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of all tables as flat objects. With several tables, each names its table."""
        if len(self.tables) == 1:
            return flat_records(self.table())
        return [{"table": table.name, **row} for table in self.tables for row in flat_records(table)]

    def plot(self, name: str) -> "Axes":
        """Draw one figure, as `figure` does, and return its axes, so that more can be drawn on them.

        A notebook shows the figure, as pandas' plots are shown.

        Raises:
            SpecError: As `figure` does, or if there is nothing to draw yet.
        """
        drawn = self.figure(name)
        if drawn.drawing is None:
            raise SpecError(f"figure {name}: {drawn.caption}")
        from matplotlib import pyplot

        with suppress(ValueError):  # before matplotlib 3.11, pyplot shows its own figures only
            pyplot.figure(drawn.drawing)
        return drawn.drawing.axes[0]

    def figure(self, name: str) -> Drawn:
        """Draw one figure: a figure of the report file by its name, or a default one of a kind such as
        `tradeoff`.

        Raises:
            SpecError: If there is no such figure or kind, or the kind needs more than its name.
        """
        figure = next((figure for figure in self.spec.figures if figure.name == name), None)
        report = self.spec.model_copy(update={"figures": (figure or _figure(self.spec, name),)})
        return report_figures(report, self.store)[0]

    def damage(self) -> list[str]:
        """Return one line per damaged file of the runs that are missing."""
        return list(damage_lines(self.store, self.report.missing))

    def files(self, folder: Path) -> ReportFiles:
        """Make all files and the folder; nothing is written or removed before `ReportFiles.write`.

        Raises:
            SpecError: If the folder cannot be created, or a figure needs a key that the records lack.
        """
        figures = self._settled(lambda spec: report_figures(spec, self.store))
        texts = report_files(self.report) | {PAGE: report_page(self.spec, self.report, self.store)}
        make_folder(folder / FIGURES if figures else folder)
        return ReportFiles(folder, texts, figures, unmade_files(self.spec, texts))

    def check(self, folder: Path, *, only_tables: bool = False) -> "ReportCheck":
        """Compare the files of a folder with those built from the current records.

        Args:
            folder: Folder of an earlier `files`.
            only_tables: Leave out page and figures, which also depend on times and machines.

        Raises:
            SpecError: If there is no such folder.
        """
        if not folder.is_dir():
            raise SpecError(f"--check compares the files of a folder: --out DIR, got {folder}")
        built = (
            report_files(self.report)
            if only_tables
            else self._settled(lambda spec: all_files(spec, self.report, self.store))
        )
        return ReportCheck(compare(folder, built, unmade_files(self.spec, built)), len(built))


@dataclass(frozen=True)
class ReportCheck:
    """Result of a check. `num_files`: number of files that the report makes."""

    comparison: Comparison
    num_files: int


def report(
    name: str | Path, *, changes: Changes | None = None, store: Path | str = DEFAULT_STORE
) -> BuiltReport:
    """Build a report from the records; torch is not loaded.

    Example:
        >>> _ = ema_lab.run("quickstart", seeds=2, only=["variant=none,se"], workers=1)
        >>> built = ema_lab.report("quickstart")
        >>> [row["variant"] for row in built.records()[:2]]  # a notebook shows `built.table()` itself
        ['none', 'se']
        >>> axes = built.plot("tradeoff")
        >>> axes.get_xlabel()
        'Multiply-adds per image (M)'
        >>> [path.name for path in built.files(Path("out/quickstart")).write()][:2]
        ['table.md', 'table.tex']

    Args:
        name: A path or the name of a report; or the name of an ablation, which gets the usual columns.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the base of the ablation.
        store: Folder of the runs.

    Raises:
        EmaLabError: If there is no such report, ablation or store, or the report does not fit the ablation.
    """
    spec, problems = read_or_usual(str(name))
    if changes:
        spec = spec.model_copy(update={"set": {**spec.set, **read_changes(changes)}})
    built = BuiltReport(spec, existing_store(store), list(map(str, problems)))
    _ = built.report  # raises here what a first use would raise later
    return built


def usual_report(ablation: Ablation, store: RunStore) -> BuiltReport:
    """Build the usual report of a whole ablation, also of the rows and seeds that `ablation` leaves out."""
    return BuiltReport(ablation_report(load_ablation(ablation.path, ablation.changes)), store)


def find_report(name: str) -> ReportSpec:
    """Return a report, or the usual one of an ablation.

    Raises:
        UnknownNameError: If neither has that name; the message lists both.
        DefinitionError: If the file is wrong.
    """
    path = _file_of(name)
    return ablation_report(load_ablation(path)) if _is_ablation(path) else load_report(path)


def ablations_of(spec: ReportSpec) -> list[Ablation]:
    """Return the ablations of a report, changed as it says."""
    names = [spec.ablation] if spec.ablation else [*spec.ablations.values()]
    return [load_ablation(name, spec.set) for name in names]


def read_or_usual(name: str) -> tuple[ReportSpec, list[Problem]]:
    """Return a report without its wrong columns and figures, or the usual report of an ablation.

    Raises:
        UnknownNameError: If neither has that name; the message lists both.
        DefinitionError: If anything else of the file is wrong.
    """
    path = _file_of(name)
    return (ablation_report(load_ablation(path)), []) if _is_ablation(path) else read_report(path)


def _file_of(name: str) -> Path:
    """Return the file of a report or of an ablation; of a name that both have, the report's."""
    with suppress(UnknownNameError):
        return find_definition("reports", name)
    try:
        return find_definition("ablations", name)
    except UnknownNameError:
        known = dict.fromkeys([*definitions("reports"), *definitions("ablations")])
        raise missing_definition("report or ablation", name, known) from None


def _is_ablation(path: Path) -> bool:
    """Return whether a file is an ablation's: those of reports have none of its keys."""
    return not {"base", "variants", "vary", "without"}.isdisjoint(read_document(path).value)


def _figure(spec: ReportSpec, kind: str) -> Figure:
    """Return a figure of a kind with its default settings."""
    if kind not in FIGURE_KINDS:
        names = dict.fromkeys([*(figure.name for figure in spec.figures), *FIGURE_KINDS])
        raise UnknownNameError(unknown_name("figure", kind, names))
    try:
        figure: Figure = TypeAdapter(Figure).validate_python({"kind": kind, "name": kind})
    except ValidationError as error:
        keys = ", ".join(str(item["loc"][-1]) for item in error.errors())
        raise SpecError(f"a figure of the kind {kind} needs {keys}: add it to the report's file") from None
    return figure
