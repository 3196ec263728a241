"""Commands about results: diff, eval."""

from typing import Annotated

import typer

from ema_lab.cli.options import Data, Device, Json, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.measured.selection import PAIR_LABELS
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.look.results import diff as compare_runs
from ema_lab.workflow.look.results import evaluate as evaluate_run

RunId = Annotated[str, typer.Argument(help="A run id, or an unambiguous prefix.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(diff)
    app.command("eval")(evaluate)


def diff(first: RunId, second: RunId, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show the differences of two runs.

    Spec, environment, source and metrics.

    Example: ema-lab diff 3f2a 91bc
    """
    differences = compare_runs(first, second, store)
    print_rows(differences.rows, as_json=as_json)
    say(f"{len(differences.rows)} of {number_of(differences.num_keys, 'key')} differ")


def evaluate(
    run_id: RunId,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Evaluate a finished run's model again.

    The model is read from its checkpoint.

    Example: ema-lab eval 3f2a --split test
    """
    result = evaluate_run(run_id, split, device=device, store=store, data=data)
    print_rows([result.row()], as_json=as_json)
    if not result.agrees:
        say(f"the record says {result.primary} {result.recorded}: {PAIR_LABELS} differ")
