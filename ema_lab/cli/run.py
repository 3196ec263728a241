"""The command that trains: run."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.duration import read_duration
from ema_lab.cli.engines import Elsewhere, EngineConfig, EngineName, choose_engine
from ema_lab.cli.output import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    AblationName,
    Data,
    Device,
    Json,
    LoaderWorkers,
    Store,
    Track,
    print_rows,
    say,
)
from ema_lab.cli.selection import Attempts, Only, Seeds, selected
from ema_lab.cli.sequential import read_until, run_until_decided
from ema_lab.cli.status import stale_lines, status_rows
from ema_lab.cli.threads import (
    NumThreads,
    expected_threads,
    settled_threads,
    unclean_lines,
    visible_gpus,
    whole_runs,
)
from ema_lab.errors import SpecError
from ema_lab.execution.claim import Task, note_sources
from ema_lab.execution.engines.engine import Progress
from ema_lab.execution.engines.local import LocalEngine
from ema_lab.execution.estimate import estimates, longest_first
from ema_lab.execution.executor import execute
from ema_lab.execution.threads import default_workers
from ema_lab.specs.run import RunSpec
from ema_lab.store.failure import failure_of
from ema_lab.store.layout import SUPERSEDED
from ema_lab.store.quarantine import refresh as set_stale_aside
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.store.survey import Survey


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(run)


def check_models(ablation: Ablation) -> None:
    """Build every distinct model on the meta device, so that what does not fit is found now.

    Raises:
        SpecError: With one line for each variant that does not fit.
    """
    from ema_lab.models.build import check_model

    _check_each(ablation, check_model)


def _check_each(ablation: Ablation, check: Callable[[RunSpec], None]) -> None:
    """Check every distinct model; all problems come in one error."""
    note_sources(cell.spec for cell in ablation.cells)
    problems: dict[str, list[str]] = {}
    for cell in {cell.spec.model_key: cell for cell in ablation.cells}.values():
        try:
            check(cell.spec)
        except SpecError as error:
            problems.setdefault(str(error), []).append(cell.row)
    if problems:
        lines = (f"{ablation.path}: {', '.join(rows)}: {text}" for text, rows in problems.items())
        raise SpecError("\n".join(lines))


def check_runs(ablation: Ablation) -> None:
    """Check every distinct model, and that it can be trained on its data.

    Raises:
        SpecError: With one line for each variant that does not fit.
    """
    from ema_lab.tasks.task import check_run

    _check_each(ablation, check_run)


def run(
    ablation: AblationName,
    only: Only = None,
    seeds: Seeds = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes; by default as many as fit the cores, or the GPUs."),
    ] = None,
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
        typer.Option("--timeout", metavar="TIME", help="Stop a run that takes longer, as failed: 45m, 2h."),
    ] = None,
    gpu_slots: Annotated[int, typer.Option("--gpu-slots", min=1, help="Runs at a time on each GPU.")] = 1,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Train stale results again; the old ones are kept in the run's folder."
        ),
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided", help="Add seeds one by one where the comparison with the baseline is open."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None, typer.Option("--max-seeds", min=2, help="Where --until-decided ends: 20 seeds a row.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="What --until-decided compares: the primary metric.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", min=0.0, help="--until-decided: rows that differ by less are equal."),
    ] = None,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Train every cell that is not done yet; finished runs are kept, failed ones tried again.

    Ctrl-C loses nothing that was finished. Exit code 1 if a run failed.

    Examples: ema-lab run quickstart --workers 2; ema-lab run quickstart --until-decided --max-seeds 20
    """
    chosen = selected(ablation, only, seeds)
    until = read_until(until_decided, max_seeds, metric, margin)
    elsewhere = choose_engine(engine, engine_config, workers)
    limit = read_duration("--timeout", timeout)
    if elsewhere is not None and (limit is not None or gpu_slots > 1):
        raise SpecError("--timeout and --gpu-slots are for workers here; put limits into --engine-config")
    how = Execution(
        workers,
        device,
        track,
        max_attempts,
        data,
        loader_workers,
        limit,
        gpu_slots,
        refresh,
        elsewhere,
        threads,
    )
    if smoke:
        if until is not None:
            raise SpecError("--smoke decides nothing; leave out --until-decided")
        if elsewhere is not None:
            raise SpecError("--smoke trains on this machine, in a temporary store; leave out --engine")
        if refresh:
            raise SpecError("--refresh changes nothing with --smoke, whose store is new and temporary")
        with tempfile.TemporaryDirectory(prefix="ema-lab-smoke-") as folder:
            return run_ablation(_smoke(chosen), RunStore(folder), how, as_json=as_json)
    runs = RunStore(store)
    if until is not None:
        one_round = partial(run_ablation, store=runs, how=how, as_json=False)
        return run_until_decided(chosen, runs, until, one_round, as_json=as_json)
    return run_ablation(chosen, runs, how, as_json=as_json)


@dataclass(frozen=True)
class Execution:
    """How runs are executed, as the options say; nothing of it is part of a run.

    `threads` are those asked for; `threads_of` is the ablation with whose number runs are trained, where
    it is not their own.
    """

    workers: int | None
    device: str
    track: str | None
    max_attempts: int
    data: Path
    loader_workers: int = 0
    timeout: float | None = None
    gpu_slots: int = 1
    refresh: bool = False
    elsewhere: Elsewhere | None = None
    threads: int | None = None
    threads_of: Ablation | None = None


def _smoke(ablation: Ablation) -> Ablation:
    from ema_lab.execution.smoke import smoke_spec

    first = [cells[0] for cells in ablation.rows().values()]
    return replace(ablation, cells=tuple(replace(cell, spec=smoke_spec(cell.spec)) for cell in first))


def run_ablation(ablation: Ablation, store: RunStore, how: Execution, *, as_json: bool) -> int:
    """Train what is not done, say how that went, and return the exit code."""
    rows = {cell.run_id: cell.row for cell in reversed(ablation.cells)}
    tasks = [Task(spec, ablation.name, rows[spec.run_id]) for spec in ablation.runs()]
    survey = Survey(store, how.max_attempts)
    standings = {task.spec.run_id: survey.standing(task.spec) for task in tasks}
    states = {run_id: standing.state for run_id, standing in standings.items()}
    again = {run_id for run_id, standing in standings.items() if standing.stale and how.refresh}
    pending = [
        task
        for task in tasks
        if states[task.spec.run_id] in {"pending", "running"} or task.spec.run_id in again
    ]
    finished_before = sum(state == "done" for state in states.values()) - len(again)
    progress = Progress(0)
    if pending:
        progress = _train(ablation, _longest_first(pending, ablation, store), store, how)
    given_up = [task for task in tasks if states[task.spec.run_id] == "failed"]
    failed = [task for task in tasks if task.spec.run_id in progress.failed] + given_up
    counts = f"{len(progress.done)} trained, {finished_before} done before, {len(failed)} failed"
    counts += f", {len(progress.elsewhere)} trained by another process" if progress.elsewhere else ""
    say(f"{ablation.name}: {counts} (store {store.root})")
    if not how.refresh:
        stale = Counter(" ".join(one.stale) for one in standings.values() if one.stale)
        say(*stale_lines(ablation.name, stale))
    for task in failed:
        say(_failure_line(store, task, given_up=task in given_up, max_attempts=how.max_attempts))
    if as_json:
        print_rows(status_rows(ablation, store, how.max_attempts), as_json=True)
    return 1 if failed else 0


def _longest_first(pending: Sequence[Task], ablation: Ablation, store: RunStore) -> list[Task]:
    """Return tasks in the order in which several workers end earliest, as far as times are known."""
    known = estimates(ablation.runs(), store)
    by_id = {task.spec.run_id: task for task in pending}
    return [by_id[spec.run_id] for spec in longest_first([task.spec for task in pending], known)]


def _train(ablation: Ablation, pending: Sequence[Task], store: RunStore, how: Execution) -> Progress:
    elsewhere = how.elsewhere
    gpus = visible_gpus() if how.device != "cpu" and elsewhere is None else ()
    slots = tuple(gpu for _ in range(how.gpu_slots) for gpu in gpus)
    threads = expected_threads(store, *_threads(ablation, how))
    workers = min(how.workers or len(slots) or default_workers(threads or 1), len(pending))
    where = f"on {elsewhere.options.engine}" if elsewhere else f"with {_count(workers, 'worker')}"
    each = f", {_count(threads, 'thread')} each" if threads else ""
    say(f"{ablation.name}: {_count(len(pending), 'run')} to train {where}{each}; checking them first")
    if rounded := sum(task.spec.recipe.evaluated_in == "bf16" for task in pending):
        advice = "recipe.evaluation_precision: fp32 evaluates in fp32, under another run id"
        say(f"{ablation.name}: evaluated in bf16, where rounding ties predictions: {rounded}; {advice}")
    from ema_lab.cli.progress import RunDisplay
    from ema_lab.run.pipeline import Machine, train_run
    from ema_lab.tasks.task import check_data
    from ema_lab.tracking.live import check_tracker
    from ema_lab.training.trainer import choose_device

    check_tracker(how.track)
    asked = elsewhere.options.device if elsewhere and how.device == "auto" else how.device
    device = asked if elsewhere else str(choose_device(asked))
    wanted = {task.spec.run_id for task in pending}
    check_runs(replace(ablation, cells=tuple(cell for cell in ablation.cells if cell.run_id in wanted)))
    for spec in {repr(task.spec.data): task.spec.data for task in pending}.values():
        check_data(spec, how.data)  # downloads what is not there, before any worker starts
    specs = [task.spec for task in pending]
    say(*unclean_lines(whole_runs(ablation), store, specs, _expected(device, threads, elsewhere)))
    threads = settled_threads(store, *_threads(ablation, how))
    machine = Machine(how.data.absolute(), asked, threads, how.loader_workers)
    here = LocalEngine(workers, how.timeout, slots if len(slots) > 1 else ())
    if how.refresh:  # only now, when nothing speaks against training them
        count = len(set_stale_aside(store, specs, Staleness()))
        say(f"{_count(count, 'stale result')} kept aside, in {SUPERSEDED}/ of the run's folder")
    with RunDisplay(list(pending), store) as display:
        return execute(
            pending,
            train=partial(train_run, machine=machine, track=how.track),
            store=store,
            engine=elsewhere.engine if elsewhere else here,
            max_attempts=how.max_attempts,
            device=device,
            watch=display.watch,
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _threads(ablation: Ablation, how: Execution) -> tuple[Ablation, int | None, str]:
    """Return what the number of threads follows from; what an engine's file says counts as asked for."""
    family = how.threads_of or ablation
    if how.elsewhere is None:
        return family, how.threads, how.device
    options = how.elsewhere.options
    return family, how.threads or options.threads, options.device


def _expected(device: str, threads: int | None, elsewhere: Elsewhere | None) -> dict[str, Any]:
    """Return what the records of runs that begin now will say; what a cluster's nodes are is not known."""
    import torch

    from ema_lab.training.environment import device_name, instruction_set, versions

    if elsewhere is not None:
        return {"num_threads": threads, "versions": versions()}
    facts = {"device": device_name(torch.device(device)), "instruction_set": instruction_set()}
    return {**facts, "num_threads": threads or torch.get_num_threads(), "versions": versions()}


def _failure_line(store: RunStore, task: Task, *, given_up: bool, max_attempts: int) -> str:
    run_id = task.spec.run_id
    facts = store.facts(run_id)
    failure = failure_of(facts)
    reason = failure.message if failure else "; ".join(facts.damage) or "its record is not there"
    left = f"; left alone after {max_attempts} attempts: ema-lab retry makes it pending"
    tail = left if given_up else "; the next run tries it again"
    if facts.unreadable:
        reason, tail = "; ".join(facts.damage), "; left alone until that is settled"
    return f"failed: {task.variant} seed {task.spec.seed} ({run_id}): {reason}{tail}"
