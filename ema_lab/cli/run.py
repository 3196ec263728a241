"""Command `run`: train what an ablation lacks."""

from typing import Annotated, Any

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.duration import read_duration
from ema_lab.cli.options import (
    AblationName,
    Attempts,
    Data,
    Device,
    EngineConfig,
    EngineName,
    Json,
    LoaderWorkers,
    NumThreads,
    Only,
    Seeds,
    Store,
    Track,
    Workers,
)
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import SpecError
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.workflow.events import Event, GridEnded
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE, ExecutionOptions
from ema_lab.workflow.outcome import GridOutcome
from ema_lab.workflow.run import run as train
from ema_lab.workflow.status import survey
from ema_lab.workflow.until import MAX_SEEDS, Comparison, Until


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(run)


def run(
    ablation: AblationName,
    only: Only = None,
    seeds: Seeds = None,
    workers: Workers = None,
    threads: NumThreads = None,
    engine: EngineName = None,
    engine_config: EngineConfig = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = 0,
    track: Track = None,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Two steps of every row on made-up images, in a temporary store."),
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="Stop a run that takes longer; it counts as failed: 45m, 2h."
        ),
    ] = None,
    gpu_slots: Annotated[
        int, typer.Option("--gpu-slots", min=1, help="Runs at the same time on each GPU.")
    ] = 1,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Train stale results again; the old ones are kept in the run's folder."
        ),
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds one by one to the rows whose comparison with the baseline is open.",
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", min=2, help="With --until-decided: seeds of a row at most; 20."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="With --until-decided: what is compared; the primary metric."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", min=0.0, help="With --until-decided: smaller differences count as equal."),
    ] = None,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Train every cell that has no result yet; finished runs are kept, failed ones are tried again.

    Ctrl-C loses no finished run. Exit code 1 if a run failed.

    Examples: ema-lab run quickstart --workers 2; ema-lab run quickstart --until-decided --max-seeds 20
    """
    until = _until(until_decided, {"--max-seeds": max_seeds, "--metric": metric, "--margin": margin})
    execution = ExecutionOptions(
        workers=workers,
        device=device,
        track=track,
        max_attempts=max_attempts,
        store=store,
        data=data,
        loader_workers=loader_workers,
        timeout=read_duration("--timeout", timeout),
        gpu_slots=gpu_slots,
        refresh=refresh,
        engine=engine,
        engine_config=engine_config,
        threads=threads,
    )
    display, rows = Display(), list[dict[str, Any]]()

    def watch(event: Event) -> None:
        display(event)
        if as_json and isinstance(event, GridEnded):  # the store of --smoke is gone afterwards
            rows[:] = survey(event.outcome.ablation, event.outcome.store, max_attempts).rows()

    outcome = train(ablation, only=only, seeds=seeds, smoke=smoke, until=until, watch=watch, **execution)
    if until is not None:
        _print_decisions(outcome, as_json=as_json)
    elif as_json:
        print_rows(rows, as_json=True)
    return 0 if outcome.ok else 1


def _until(until_decided: bool, options: dict[str, Any]) -> Until | None:
    """Return the rule for further seeds; None without --until-decided.

    Raises:
        SpecError: If an option has no effect.
    """
    if until_decided:
        max_seeds, metric, margin = options.values()
        return Until(MAX_SEEDS if max_seeds is None else max_seeds, metric, margin or 0.0)
    for option, value in options.items():
        if value is not None:
            raise SpecError(f"{option} changes nothing without --until-decided")
    return None


def _print_decisions(outcome: GridOutcome, *, as_json: bool) -> None:
    comparisons = outcome.comparisons
    print_rows([_decision_row(one) for one in comparisons], as_json=as_json)
    undecided = sum(one.decision == "open" for one in comparisons)
    still = f"; {undecided} open" if undecided else ""
    decided = f"{len(comparisons) - undecided} of {len(comparisons)} comparisons decided{still}"
    test = "always-valid paired t tests, Holm-corrected: at most 5 % chance of any false difference"
    say(f"{outcome.ablation.name}: {decided} ({test})")


def _decision_row(one: Comparison) -> dict[str, Any]:
    differences = one.followed
    bounded = differences.low > float("-inf")
    return {
        "variant": one.row,
        "baseline": one.baseline,
        "n": differences.count,
        "delta": differences.mean if differences.count else None,
        "low": differences.low if bounded else None,
        "high": differences.high if bounded else None,
        "p": differences.p,
        "decision": one.decision,
    }
