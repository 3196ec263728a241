"""The command that searches: sweep, which is sweep run."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from ema_lab.cli.duration import read_duration
from ema_lab.cli.output import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    Data,
    Device,
    Json,
    LoaderWorkers,
    Store,
    Track,
    print_rows,
    say,
)
from ema_lab.cli.run import Execution
from ema_lab.cli.search_display import SearchDisplay
from ema_lab.cli.selection import Attempts
from ema_lab.cli.threads import NumThreads, base_ablation, expected_threads, settled_threads, visible_gpus
from ema_lab.cli.wandb_sweep import (
    Agents,
    SweepEngine,
    WandbEntity,
    WandbProject,
    agent_environment,
    check_ends,
    check_engine,
    search_with_wandb,
)
from ema_lab.errors import SpecError
from ema_lab.execution.threads import default_workers
from ema_lab.search.feasibility import check_examples
from ema_lab.search.history import Ended, History
from ema_lab.search.objective import read_objectives
from ema_lab.search.report.trials import (
    counts_words,
    repeats_words,
    seeds_words,
    stale_words,
    trial_records,
    trial_rows,
)
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.trial import Trier
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

BEST_SHOWN = 10
WITHOUT_MEMORY = {"grid", "random"}

SweepName = Annotated[str, typer.Argument(help="A path, or a name as `ema-lab list sweeps` prints it.")]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        "--objective", metavar="NAME:max|min", help="What to improve, as top1:max, macs:min; may be repeated."
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Keep trials in postgresql+psycopg://USER@HOST/DB or grpc://HOST:PORT, not a journal.",
    ),
]
SearchWorkers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes; by default as many as fit the cores, or the GPUs."),
]


def run(
    context: typer.Context,
    sweep: SweepName,
    engine: SweepEngine = "optuna",
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Trials over all calls; by default the file's run_cap."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Begin no trial after this time: 45m, 2h."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="tpe, gp, random, cmaes, nsga2, or grid; by default from the method: bayes is tpe.",
        ),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            "--pruner",
            help="asha, hyperband, median (by epoch), wilcoxon (by 5 seeds or more), none; else the file's.",
        ),
    ] = None,
    objective: Objectives = None,
    sampler_seed: Annotated[int, typer.Option("--sampler-seed", help="Where its random choices start.")] = 0,
    storage: Storage = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start/--no-warm-start", help="Learn from finished runs of the store.")
    ] = True,
    workers: SearchWorkers = None,
    threads: NumThreads = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = 0,
    track: Track = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Two steps of the first trial on made-up images, kept nowhere.")
    ] = False,
    project: WandbProject = None,
    entity: WandbEntity = None,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Search hyper-parameters as a file in W&B's sweep format says; the same file runs offline or at W&B.

    Every trial is made of ordinary runs: what was trained before costs nothing, and a trial that is pruned
    leaves a pending run with its checkpoint. Call it again to go on: after a kill, or with more --trials.

    A grid over a range is W&B's: int_uniform has every whole number from min to max, q_uniform has min,
    min + q, ... below max, without max itself.

    With --engine wandb a W&B server chooses: this creates a sweep there and runs its agents, whose trials
    end up in the same store.

    Examples: ema-lab sweep quick_search --trials 8;  ema-lab sweep quick_search --objective top1:max
    --objective macs:min
    """
    check_engine(engine, context, sweep)
    loaded = load_sweep(sweep)
    how = Execution(workers, device, track, max_attempts, data, loader_workers, threads=threads)
    if smoke:
        return _smoke(loaded, how)
    if engine == "wandb":
        check_ends(loaded, trials)
        device = prepare(loaded, how, RunStore(store))[1]
        each = _expected_threads(loaded, how, RunStore(store))
        told = agent_environment(store, data, replace(how, threads=each))
        agents = Agents(workers, trials, device, told)
        return search_with_wandb(loaded, agents, project, entity, as_json=as_json)
    objectives = read_objectives(loaded, objective or ())
    strategy = choose_strategy(loaded, objectives, sampler=sampler, pruner=pruner, seed=sampler_seed)
    seconds = read_duration("--timeout", timeout)
    search = Search(loaded, objectives, strategy, store, storage)
    limit = trials_in_all(search, trials, seconds)
    say(*loaded.remarks())
    study = run_one_search(search, how, limit, seconds, warm_start=warm_start)
    shown = trial_records(study, study.trials()) if as_json else shown_rows(study, best_first(study))
    print_rows(shown, as_json=as_json)
    _say_result(study, search)
    return 1 if study.counts().failed else 0


def trials_in_all(search: Search, trials: int | None, seconds: float | None) -> int | None:
    """Return how many trials the study is to have; None where only the time ends it.

    Raises:
        SpecError: If nothing ends the search.
    """
    limit = trials or search.sweep.spec.run_cap
    if search.strategy.sampler == "grid":
        return min(limit or search.sweep.grid_size, search.sweep.grid_size)
    if limit is None and seconds is None:
        raise SpecError(f"{search.sweep.path} has no run_cap: say --trials N or --timeout TIME")
    return limit


def run_one_search(
    search: Search, how: Execution, limit: int | None, seconds: float | None, *, warm_start: bool
) -> SweepStudy:
    """Go on with a search until it has its trials or its time is over, and return its study."""
    study = SweepStudy(search)
    name = search.sweep.name
    if search.strategy.sampler == "grid":
        study.enqueue_grid(limit)
    if warm_start:
        _say_learned(name, study.add_finished(), study.left_out)
    study.revive()
    study.renew(how.max_attempts)
    counts = study.counts()
    if counts.waiting or limit is None or counts.own < limit or counts.running:
        # What an earlier call with a larger limit, or another method, has begun is finished, too.
        _try(search, study, how, limit and max(limit, counts.own), seconds, counts.over)
    return study


def _say_learned(name: str, found: int, left_out: int) -> None:
    if found:
        say(f"{name}: {found} finished choice{'s' * (found != 1)} of the store to learn from")
    if left_out:
        words = "choice is" if left_out == 1 else "choices are"
        say(f"{name}: {left_out} finished {words} not learned from: stale, as the source has changed since")


def _try(
    search: Search,
    study: SweepStudy,
    how: Execution,
    limit: int | None,
    seconds: float | None,
    over: int,
) -> None:
    gpus = visible_gpus() if how.device != "cpu" else ()
    wanted = (
        how.workers or len(gpus) or default_workers(_expected_threads(search.sweep, how, study.store) or 1)
    )
    workers = min(wanted, limit - over) if limit else wanted
    asked = f"{limit} trials" if limit else f"trials for {seconds:g} s"
    done = f", {over} of them over" if over else ""
    say(
        f"{search.sweep.name}: {asked}{done}, with {workers} worker{'s' * (workers > 1)}; checking them first"
    )
    train, device = prepare(search.sweep, how, study.store)
    trier = Trier(search, train, limit, how.max_attempts, device)
    from ema_lab.search.workers import run_search

    end = time.monotonic() + seconds if seconds is not None else float("inf")
    with SearchDisplay(study, limit) as display:
        run_search(
            trier,
            study,
            workers=workers,
            gpus=gpus if len(gpus) > 1 else (),
            is_over=lambda: time.monotonic() >= end,
            watch=display.watch,
        )


def _expected_threads(sweep: Sweep, how: Execution, store: RunStore) -> int | None:
    return expected_threads(store, how.threads_of or base_ablation(sweep.spec.base), how.threads, how.device)


def prepare(sweep: Sweep, how: Execution, store: RunStore) -> tuple[Any, str]:
    """Check models and data before the first trial; return what trains a run, and the device.

    The number of threads is kept in the store, for the ablation that the search is about.

    Raises:
        DefinitionError: With a line for each reason why a model does not fit.
    """
    from ema_lab.tasks.task import check_data
    from ema_lab.tracking.live import check_tracker

    check_tracker(how.track)
    check_models(sweep)
    for data in {repr(spec.data): spec.data for spec in sweep.examples()}.values():
        check_data(data, how.data)
    family = how.threads_of or base_ablation(sweep.spec.base)
    return _training(replace(how, threads=settled_threads(store, family, how.threads, how.device)))


def check_models(sweep: Sweep) -> None:
    """Build the distinct models of the space on the meta device, so that what does not fit is found now.

    Raises:
        DefinitionError: With a line for each reason why a model does not fit.
    """
    from ema_lab.execution.claim import note_sources
    from ema_lab.tasks.task import check_run

    note_sources(sweep.examples())
    check_examples(sweep, check_run)


def _training(how: Execution) -> tuple[Any, str]:
    from ema_lab.one_run.pipeline import Machine, train_run
    from ema_lab.training.trainer import choose_device

    device = str(choose_device(how.device))
    machine = Machine(how.data.absolute(), how.device, how.threads, how.loader_workers)
    return partial(train_run, machine=machine, track=how.track), device


def _smoke(sweep: Sweep, how: Execution) -> int:
    from ema_lab.execution.executor import execute
    from ema_lab.execution.smoke import smoke_spec

    check_models(sweep)
    train, device = _training(how)
    with tempfile.TemporaryDirectory(prefix="ema-lab-smoke-") as folder:
        specs = [smoke_spec(sweep.examples()[0])]
        progress = execute(specs, train=train, store=RunStore(folder), device=device)
    say(f"{sweep.name}: the first trial {'failed' if progress.failed else 'trains'}")
    return 1 if progress.failed else 0


def shown_rows(study: History, trials: Sequence[Ended], most: int = BEST_SHOWN) -> list[dict[str, Any]]:
    """Return trials as a table on the terminal has them, not too many."""
    return trial_rows(study, trials[:most], short=True)


def best_first(study: History) -> list[Ended]:
    """Return the finished trials, the best first; with several objectives, the Pareto front."""
    several = len(study.objectives) > 1
    return study.best() if several else [one for one in study.ranked() if one.values is not None]


def say_stale(history: History) -> None:
    """Say which values of a search are those of an earlier source."""
    if words := stale_words(history.trials()):
        say(f"{history.sweep.name}: {words}")


def _say_result(study: SweepStudy, search: Search) -> None:
    say(f"{search.sweep.name}: {counts_words(study)} (store {search.root}; {seeds_words(study)})")
    for one in study.trials():
        if one.state == "failed":
            say(f"failed: trial {one.number}: {one.message}")
    if repeats_words(study.trials()) and all(one.is_listed for one in search.sweep.parameters):
        say("hint: every parameter is a list of values, and the method grid tries each choice once")
    say_stale(study)
    if any(one.stale for one in study.trials()) and search.strategy.sampler not in WITHOUT_MEMORY:
        say("hint: the sampler learns from them; one of a copy of the file under another name does not")
    if study.counts().failed:
        say("hint: once the cause is mended, a larger --max-attempts tries them again")
