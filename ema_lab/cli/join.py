"""Command `join`: train a part of the runs of another machine."""

import typer

from ema_lab.cli.options import Store
from ema_lab.cli.output import say
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.train.machines import join as join_machine


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(join)


def join(store: Store = DEFAULT_STORE) -> None:
    """Train a part of each run of another machine.

    `ema-lab run X --nodes N`, without a cluster, waits for N - 1 machines on which this command runs. The
    store must be one folder that all machines share, and code and data must have the same paths. The command
    ends when that one ends; Ctrl-C ends it earlier, and with it the current attempt.

    Example: ema-lab join --store /shared/runs
    """
    join_machine(store, lambda sentence: say(f"join: {sentence}"))
