"""The command that W&B's agents run: trial."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ema_lab.cli.output import DEFAULT_DATA, DEFAULT_STORE, Data, Store, say
from ema_lab.cli.threads import base_ablation, settled_threads
from ema_lab.errors import EmaLabError, StoreError
from ema_lab.search.external_trial import GivenTrial, read_trial, try_given
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.tracking.live import NoTracker
from ema_lab.tracking.wandb_trial import SWEEP_ID, start_trial_tracker

Parameters = Annotated[
    str,
    typer.Argument(
        metavar="ARGS_JSON", help='A JSON object: {"base": "ABLATION/VARIANT", "seeds": [0], "a.b": 1}.'
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(trial)


def trial(
    parameters: Parameters,
    device: Annotated[
        str, typer.Option("--device", envvar="EMA_LAB_DEVICE", help="auto, cpu or cuda.")
    ] = "auto",
    loader_workers: Annotated[
        int,
        typer.Option(
            "--loader-workers", min=0, envvar="EMA_LAB_LOADER_WORKERS", help="Processes that decode images."
        ),
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, envvar="EMA_LAB_THREADS", help="Threads of a run; by default the base's."
        ),
    ] = None,
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts", min=1, envvar="EMA_LAB_MAX_ATTEMPTS", help="Tries before a run is left alone."
        ),
    ] = MAX_ATTEMPTS,
    wandb: Annotated[
        bool, typer.Option("--wandb/--no-wandb", help="Report to W&B where one of its agents runs this.")
    ] = True,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
) -> int:
    """Train the runs of one trial of a sweep and print its values as one JSON object.

    It is the command of a sweep file, [ema-lab, trial, "${args_json}"], which W&B's agents fill in: base,
    seeds and every parameter. Runs that the store has cost nothing. Stopped by W&B it leaves a pending run
    with its checkpoint.

    Example: ema-lab trial '{"base": "quickstart/se", "seeds": [0], "data.val_images": 300}'
    """
    kept = RunStore(store)
    try:
        given = read_trial(parameters)
        train, device = prepare(given, kept, data, device, loader_workers, threads)
    except EmaLabError:
        if os.environ.get(SWEEP_ID):  # who started the agent counts its trials by what they print
            _end({"base": None, "run_ids": [], "status": "failed"}, 2)
        raise
    tracker = start_trial_tracker(given.base, given.run_ids) if wandb else NoTracker()
    row: dict[str, Any] = {"base": given.base, "run_ids": given.run_ids}
    try:
        result = try_given(
            given, train, kept, max_attempts=max_attempts, device=device, follow=tracker.log_epoch
        )
    except KeyboardInterrupt:
        tracker.finish(None)
        if not os.environ.get(SWEEP_ID):
            raise
        # An agent gives up after three codes above 0, and a trial that W&B has stopped is no failure.
        return _end({**row, "status": "stopped"}, 0)
    told: Mapping[str, Any] = {**result.values, "status": result.state}
    tracker.finish({**told, "run_ids": given.run_ids})
    if result.message:
        say(f"failed: {result.message}")
    return _end({**row, **told}, 0 if result.state == "done" else 1)


def prepare(
    trial: GivenTrial,
    store: RunStore,
    data: Path,
    device: str,
    loader_workers: int = 0,
    threads: int | None = None,
) -> tuple[Any, str]:
    """Check the model and the data of what is to be trained; return what trains a run, and the device.

    Where all is trained, torch is not loaded: W&B may well ask for the same trial twice.

    Raises:
        EmaLabError: If they do not fit, or are not there.
    """
    if all(store.facts(run_id).done for run_id in trial.run_ids):
        return _gone, device
    from ema_lab.one_run.pipeline import Machine, train_run
    from ema_lab.tasks.task import check_data, check_run
    from ema_lab.training.trainer import choose_device

    check_run(trial.runs[0])
    check_data(trial.runs[0].data, data)
    each = settled_threads(store, base_ablation(trial.base), threads, device)
    machine = Machine(data.absolute(), device, each, loader_workers)
    return partial(train_run, machine=machine), str(choose_device(device))


def _gone(spec: RunSpec, *_others: Any, **_more: Any) -> NoReturn:
    raise StoreError(f"the finished run {spec.run_id} was taken away while its trial looked at it")


def _end(row: Mapping[str, Any], code: int) -> int:
    print(json.dumps(row, allow_nan=False), flush=True)
    return code
