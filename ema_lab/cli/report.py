"""Command `report`: print and write the tables of a report, or check written ones."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ema_lab.cli.options import Json, Set, Store, refuse_without
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.store_argument import settings_hint
from ema_lab.errors import SpecError
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE

if TYPE_CHECKING:
    from ema_lab.workflow.publish.report import BuiltReport


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(report)


def report(
    name: Annotated[
        str, typer.Argument(metavar="REPORT", help="A path or the name of a report; or of an ablation.")
    ],
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
            "--tables", help="With --check: only the tables; the page also depends on times and machines."
        ),
    ] = False,
    changes: Set = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Print and write the tables of a report.

    They come from the records, as text, and with --out as Markdown, LaTeX, CSV, HTML and JSON.

    --check builds every number again, on the page and in figures too, and names each cell that differs;
    exit code 1 then. A column or a figure that is wrong is named and left out, with exit code 1, too.

    Example: ema-lab report quickstart --out out/quickstart
    """
    from ema_lab.tables.render import render_text
    from ema_lab.workflow.publish.report import ablations_of
    from ema_lab.workflow.publish.report import report as build

    if not check:
        refuse_without("--check", {"--tables": tables})
    built = build(name, changes=changes, store=store)
    if check:
        return _check(built, out, only_tables=tables, as_json=as_json)
    say(*built.damage())
    files = None if out is None else built.files(out)
    if files is not None:
        say(*files.remarks)
    if as_json:
        put(json.dumps(built.records(), indent=1, allow_nan=False))
    else:
        put("\n".join(map(render_text, built.tables)), end="")
    if files is not None:
        (say if as_json else put)("\n".join(map(str, files.write())))
    say(*(f"ema-lab: left out: {problem}" for problem in built.problems))
    for ablation in ablations_of(built.spec):
        say(*settings_hint("report", name, ablation, built.store, store, changes))
    return 1 if built.problems else 0


def _check(built: "BuiltReport", out: Path | None, *, only_tables: bool, as_json: bool) -> int:
    """Print each difference between the files of a folder and the records."""
    if out is None:
        raise SpecError("--check compares the files of a folder: --out DIR")
    checked = built.check(out, only_tables=only_tables)
    say(*built.damage())
    differences, not_compared = checked.comparison
    if as_json:
        print_rows([difference.flat() for difference in differences], as_json=True)
    else:
        put("".join(f"{difference}\n" for difference in differences), end="")
    number = number_of(len(differences), "difference") if differences else "no differences"
    num_compared = checked.num_files - len(not_compared)
    say(*not_compared, f"{built.spec.name}: {number} in {number_of(num_compared, 'file')} of {out}")
    say(*(f"ema-lab: left out: {problem}" for problem in built.problems))
    return 1 if differences or built.problems else 0
