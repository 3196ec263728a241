"""The command that turns records into a paper's tables, and checks tables that were written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ema_lab.cli.options import Json, Store
from ema_lab.cli.output import make_folder, print_rows, put, say
from ema_lab.errors import SpecError
from ema_lab.specs.definition import find_definition
from ema_lab.store.store import RunStore
from ema_lab.store.survey import damage_lines
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.status import existing_store

if TYPE_CHECKING:
    from ema_lab.reports.report import Report
    from ema_lab.specs.report import ReportSpec


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(report)


def report(
    name: Annotated[str, typer.Argument(metavar="REPORT", help="A path or the name of a report.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for index.html, table.md, .tex, .csv, .html, report.json."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing: compare the files in --out with the records."),
    ] = False,
    tables: Annotated[
        bool,
        typer.Option(
            "--tables", help="With --check: the tables alone; the page also tells of times and machines."
        ),
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Print the tables of a report from the records, and write them as Markdown, LaTeX, CSV, HTML and JSON.

    With --check every number is built again, on the page and in figures too, and each cell that differs
    is named; exit code 1.

    Example: ema-lab report quickstart --out out/quickstart
    """
    from ema_lab.reports.report import build_report
    from ema_lab.specs.report import load_report

    spec = load_report(find_definition("reports", name))
    if check and (out is None or not out.is_dir()):
        raise SpecError(f"--check compares the files of a folder: --out DIR, got {out}")
    if tables and not check:
        raise SpecError("--tables changes nothing without --check")
    runs = existing_store(store)
    found = build_report(spec, runs)
    say(*damage_lines(runs, found.missing))
    if check and out is not None:
        return _check(spec, found, runs, out, only_tables=tables, as_json=as_json)
    write = None if out is None else _prepare(spec, found, runs, out)
    if as_json:
        put(json.dumps(_records(found), indent=1, allow_nan=False))
    else:
        from ema_lab.tables.render import render_text

        put("\n".join(map(render_text, found.tables)), end="")
    if write is not None:
        (say if as_json else put)("\n".join(map(str, write())))
    return 0


def _prepare(spec: "ReportSpec", found: "Report", runs: RunStore, out: Path) -> Callable[[], list[Path]]:
    """Make all files of a report and their folder; return what writes them: only then is anything lost."""
    from ema_lab.reports.figures.assemble import remarks, report_figures
    from ema_lab.reports.files import PAGE, report_files, unmade_files
    from ema_lab.reports.page.page import report_page

    files = report_files(found) | {PAGE: report_page(spec, found, runs)}
    figures = report_figures(spec, runs)
    say(*remarks(figures))
    make_folder(out / "figures" if figures else out)

    def write() -> list[Path]:
        for file, text in files.items():
            (out / file).write_text(text, encoding="utf-8")
        for file in unmade_files(spec, files):  # an older table would be taken for one of now
            (out / file).unlink(missing_ok=True)
        drawn = [path for figure in figures for path in figure.write(out / "figures")]
        return [*(out / file for file in files), *drawn]

    return write


def _records(found: "Report") -> list[dict[str, Any]]:
    """Return the rows of all tables as flat objects, which say their table where there are several."""
    from ema_lab.tables.render import flat_records

    if len(found.tables) == 1:
        return flat_records(found.tables[0])
    return [{"table": table.name, **row} for table in found.tables for row in flat_records(table)]


def _check(
    spec: "ReportSpec", found: "Report", runs: RunStore, out: Path, *, only_tables: bool, as_json: bool
) -> int:
    """Compare the files of a folder with what the records give now, and print what differs."""
    from ema_lab.reports.check.compare import compare
    from ema_lab.reports.files import all_files, report_files, unmade_files

    built = report_files(found) if only_tables else all_files(spec, found, runs)
    differences, not_compared = compare(out, built, unmade_files(spec, built))
    if as_json:
        print_rows([difference.flat() for difference in differences], as_json=True)
    else:
        put("".join(f"{difference}\n" for difference in differences), end="")
    count = f"{len(differences) or 'no'} difference{'s' * (len(differences) != 1)}"
    say(*not_compared, f"{spec.name}: {count} in {len(built) - len(not_compared)} files of {out}")
    return 1 if differences else 0
