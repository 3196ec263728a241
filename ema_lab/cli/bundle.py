"""Commands about bundles: bundle, verify."""

from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.options import Store
from ema_lab.cli.output import put, say
from ema_lab.errors import SpecError
from ema_lab.specs.definition import find_definition
from ema_lab.store.survey import damage_lines
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(bundle)
    app.command()(verify)


def bundle(
    name: Annotated[str, typer.Argument(metavar="REPORT", help="A path or the name of a report.")],
    out: Annotated[Path, typer.Option("--out", help="The zip file to write.")],
    store: Store = DEFAULT_STORE,
) -> None:
    """Write a report and its records to a zip file.

    Also its tables, figures and definitions.

    Inside are the environment of the runs, this package, reproduce.sh, and checksums; no weights, no data.
    Equal records give equal files. `ema-lab verify` checks it.

    Example: ema-lab bundle quickstart --out paper.zip
    """
    from ema_lab.reports.bundle.bundle import write_bundle
    from ema_lab.specs.report import load_report

    if out.suffix != ".zip":
        raise SpecError(f"--out must end in .zip, got {out}")
    path = find_definition("reports", name)
    runs = existing_store(store)
    files = write_bundle(load_report(path), out, runs, path)
    put(out)
    run_ids = sorted({file.split("/")[1] for file in files if file.startswith("runs/")})
    say(*damage_lines(runs, run_ids))
    say(
        f"{number_of(len(files), 'file')}, {number_of(len(run_ids), 'run')}; ema-lab verify {out} checks them"
    )


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the folder of an unpacked one.")
    ],
) -> int:
    """Build a bundle's report again and compare.

    Each number and file that differs is named.

    Tables, page and figures are compared, runs with their ids, records with their curves and each other.
    What runs measured cannot be computed again: the last lines name what only the checksums protect.
    Exit code 1 if something differs.

    Example: ema-lab verify paper.zip
    """
    from ema_lab.reports.bundle.verify import verify_bundle

    result = verify_bundle(path)
    for line in result.problems:
        put(line)
    count = len(result.problems)
    say(f"{path}: {number_of(count, 'difference') if count else 'no differences'}", *result.remarks)
    return 1 if count else 0
