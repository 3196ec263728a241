"""Command `audit`: compare published numbers with counts and trained runs."""

from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.options import Json, Store
from ema_lab.cli.output import put, say
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.publish.audit import Format, audit_claims


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(audit)


def audit(
    name: Annotated[
        str, typer.Argument(metavar="FILE", help="A path, or a name as `ema-lab list published` prints it.")
    ],
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table of the file; may be repeated.")
    ] = None,
    store: Store = DEFAULT_STORE,
    form: Annotated[Format, typer.Option("--format", help="Format of the output.")] = "text",
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for audit.md, audit.tex, audit.csv and audit.json.")
    ] = None,
) -> None:
    """Compare published numbers with computed ones.

    Costs are counted; metrics are those of runs, where they exist.

    Each number gets one verdict, by rule:

    agrees: the rounded count equals the printed number; or two one-sided t tests show that the number and the
    runs' mean differ by less than the table's `relevant` points.

    agrees under another convention: another way to count gives the printed number: norm parameters, or those
    of the module's own norms, not counted; norms folded into convolutions; multiply-adds of convolutions,
    linear layers and matrix products alone, as fvcore or as thop counts them; two operations for each;
    truncated, or rounded to tens; k, M, G as 2^10, 2^20, 2^30. Each differs in one respect from the
    convention that the table is assumed to follow. Also: the assumed convention fits this number, and the
    one that fits most rows does not.

    nearly agrees: operations within 0.1 %, or within 1 % if the row's difference to its baseline agrees to
    the printed digits. Parameters never nearly agree.

    disagrees: none of these, with the difference; for runs, a t test shows one. The printed number is a
    measurement, too: the mean of `seeds` seeds (a key of the file, 1 by default), which vary as the runs do.
    inconclusive: the runs show neither a difference nor agreement, or there is a single run. not run: there
    is no run. Tests of runs are Holm-corrected over all trained numbers of the file, also with --table.

    Example: ema-lab audit ema_icassp2023 --table cifar100
    """
    result = audit_claims(name, tables=table or (), out=out, store=store, watch=Display())
    put(result.render("json" if as_json else form), end="")
    say(result.summary, *(f"left out: {item.what} {item.reason}" for item in result.published.left_out))
    say(*map(str, result.files))
