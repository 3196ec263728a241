"""Command `trial`: train one trial of a sweep, as W&B's agents ask for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ema_lab.cli.groups import expanded
from ema_lab.cli.options import MOST, AttentionKernel, Data, Store
from ema_lab.cli.output import say
from ema_lab.errors import EmaLabError
from ema_lab.execution.threads import MOST_PROCESSES
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE, Execution
from ema_lab.workflow.search.trial import is_of_agent, try_trial

Parameters = Annotated[
    str,
    typer.Argument(
        metavar="ARGS_JSON", help='A JSON object: {"base": "ABLATION/VARIANT", "seeds": [0], "a.b": 1}.'
    ),
]


@dataclass(frozen=True)
class TrialOptions:
    """Settings of execution. W&B's command has no room for options, so that variables may set them, too."""

    device: Annotated[str, typer.Option("--device", envvar="EMA_LAB_DEVICE", help="auto, cpu or cuda.")] = (
        "auto"
    )
    loader_workers: Annotated[
        int | None,
        typer.Option(
            "--loader-workers",
            min=0,
            max=MOST_PROCESSES,
            envvar="EMA_LAB_LOADER_WORKERS",
            help="Processes that decode images.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=MOST_PROCESSES,
            envvar="EMA_LAB_THREADS",
            help="Threads of torch in a run; by default the ablation's.",
        ),
    ] = None
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            min=1,
            max=MOST,
            envvar="EMA_LAB_MAX_ATTEMPTS",
            help="Attempts before a run is left alone.",
        ),
    ] = MAX_ATTEMPTS
    attention_kernel: AttentionKernel = None


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(expanded(trial))


def trial(
    parameters: Parameters,
    *,
    machine: TrialOptions,
    wandb: Annotated[
        bool, typer.Option("--wandb/--no-wandb", help="Report to W&B if one of its agents runs this.")
    ] = True,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
) -> int:
    """Train the runs of one trial of a sweep.

    Its values are printed as one JSON object. W&B's agents run it as the command of a sweep file, [ema-lab,
    trial, "${args_json}"]: they fill in base, seeds and every parameter. Runs that the store has cost
    nothing. If W&B stops the trial, its run is pending and keeps its checkpoint.

    Example: ema-lab trial '{"base": "quickstart/se", "seeds": [0], "data.val_images": 300}'
    """
    how = Execution(**vars(machine), store=store, data=data)
    try:
        outcome = try_trial(parameters, how, report_to_wandb=wandb)
    except EmaLabError:
        if is_of_agent():  # the command that started the agent counts its trials by their output
            _print_object({"base": None, "run_ids": [], "status": "failed"})
        raise
    if outcome.message:
        say(f"failed: {outcome.message}")
    _print_object(outcome.row())
    # An agent gives up after three codes above 0, and a trial that W&B has stopped is no failure.
    return 1 if outcome.state == "failed" else 0


def _print_object(row: Mapping[str, Any]) -> None:
    print(json.dumps(row, allow_nan=False), flush=True)
