"""Search of hyper-parameters: check the space, try trials, and return the study."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.execution.threads import default_workers
from ema_lab.search.feasibility import check_examples
from ema_lab.search.history import EndedTrial, History
from ema_lab.search.objective import read_objectives
from ema_lab.search.optimism import optimism_text
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.trial import Trier
from ema_lab.workflow import events
from ema_lab.workflow.data_files import check_files, copies_of, copies_remarks, data_of
from ema_lab.workflow.execution import Execution, ExecutionOptions, Watch, ignore
from ema_lab.workflow.train.threads import base_ablation, expected_threads, settled_threads, visible_gpus


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search: sampler, pruner, storage and time limit.

    Attributes:
        sampler: tpe, gp, random, cmaes, nsga2 or grid; None follows from the file's method: bayes is tpe.
        pruner: asha, hyperband, median, wilcoxon or none; None takes the file's.
        sampler_seed: Seed of the sampler's random choices.
        storage: URL of a database for the trials, postgresql+psycopg:// or grpc://; None keeps a journal.
        seconds: No trial begins after this time; None sets no limit.

    Example:
        >>> ema_lab.SearchOptions(sampler="random", seconds=3600).sampler_seed
        0
    """

    sampler: str | None = None
    pruner: str | None = None
    sampler_seed: int = 0
    storage: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class SearchOutcome:
    """A search after a call: its study has every trial, those of earlier calls too."""

    search: Search
    study: SweepStudy

    @property
    def best(self) -> list[EndedTrial]:
        """Finished trials, the best first; with several objectives, the Pareto front."""
        return best_first(self.study)

    @property
    def caveat(self) -> str:
        """Warning that the value of the best trial is optimistic; empty below two values."""
        return optimism_text(self.study)

    @property
    def ok(self) -> bool:
        """Whether no trial has failed."""
        return not self.study.counts().failed


def sweep(
    sweep: str | Path,
    *,
    trials: int | None = None,
    objectives: Sequence[str] = (),
    warm_start: bool = True,
    options: SearchOptions | None = None,
    watch: Watch = ignore,
    **execution: Unpack[ExecutionOptions],
) -> SearchOutcome:
    """Search hyper-parameters as a sweep file says, and return the study.

    Every trial consists of ordinary runs: runs that are finished cost nothing. A later call continues.

    Example:
        >>> outcome = ema_lab.sweep("quick_search", trials=2, workers=1)
        >>> sorted(outcome.best[0].choice)
        ['model.attention.groups', 'model.attention.local_branch', 'recipe.optimizer.lr']

    Args:
        sweep: A path, or the name of a sweep file.
        trials: Trials over all calls; None takes the file's run_cap.
        objectives: What to improve, such as "top1:max" and "macs:min"; by default the file's metric.
        warm_start: Learn from finished runs of the store.
        options: Sampler, pruner, storage and time limit.
        watch: Observer of the events of `ema_lab.workflow.events`.
        **execution: Fields of `ema_lab.workflow.execution.Execution`: workers, device, store, data, ...

    Raises:
        EmaLabError: If the request is wrong. A trial that fails raises nothing; the study has it.
    """
    loaded, options = load_sweep(str(sweep)), options or SearchOptions()
    how = Execution(**execution)
    how.refuse_for_runs_alone("sweep")
    search = make_search(loaded, objectives, options, Path(how.store))
    limit = trials_in_all(search, trials, options.seconds)
    for line in loaded.remarks():
        watch(events.Remark("", line))
    study = go_on(search, how, Budget(limit, options.seconds), watch, warm_start=warm_start)
    return SearchOutcome(search, study)


def make_search(sweep: Sweep, objectives: Sequence[str], options: SearchOptions, root: Path) -> Search:
    """Return the search of a sweep in a store.

    Raises:
        SpecError: If an objective, the sampler or the pruner does not fit the sweep.
    """
    read = read_objectives(sweep, objectives)
    seed = options.sampler_seed
    strategy = choose_strategy(sweep, read, sampler=options.sampler, pruner=options.pruner, seed=seed)
    return Search(sweep, read, strategy, root, options.storage)


def trials_in_all(search: Search, trials: int | None, seconds: float | None) -> int | None:
    """Return the number of trials at which the study ends; None if only a time limit ends it.

    Raises:
        SpecError: If nothing ends the search.
    """
    limit = trials or search.sweep.spec.run_cap
    if search.strategy.sampler == "grid":
        return min(limit or search.sweep.grid_size, search.sweep.grid_size)
    if limit is None and seconds is None:
        raise SpecError(f"{search.sweep.path} has no run_cap: say --trials N or --budget TIME")
    return limit


@dataclass(frozen=True)
class Budget:
    """End of a search: a number of trials, a time, or both. `threads_of`: see `train_grid`."""

    trials: int | None
    seconds: float | None = None
    threads_of: Ablation | None = None


def go_on(search: Search, how: Execution, budget: Budget, watch: Watch, *, warm_start: bool) -> SweepStudy:
    """Try trials until the search has its number of trials or its time is over, and return its study."""
    study, limit = SweepStudy(search), budget.trials
    if search.strategy.sampler == "grid":
        study.enqueue_grid(limit)
    if warm_start:
        watch(events.Learned(search.sweep.name, study.add_finished(), study.left_out))
    study.revive()
    study.renew(how.max_attempts)
    counts = study.counts()
    if counts.waiting or limit is None or counts.own < limit or counts.running:
        # Trials that an earlier call with a larger limit, or another method, has begun are finished, too.
        budget = replace(budget, trials=limit and max(limit, counts.own))
        _try_trials(study, how, budget, counts.over, watch)
    return study


def _try_trials(study: SweepStudy, how: Execution, budget: Budget, over: int, watch: Watch) -> None:
    search, limit, seconds = study.search, budget.trials, budget.seconds
    family = budget.threads_of or base_ablation(search.sweep.spec.base)
    gpus = visible_gpus() if how.device != "cpu" else ()
    threads = expected_threads(study.store, family, how.threads, how.device)
    wanted = how.workers or len(gpus) or default_workers(threads or 1)
    workers = min(wanted, limit - over) if limit else wanted
    watch(events.TrialsChosen(search.sweep.name, limit, seconds, over, workers))
    train, device = prepare(search.sweep, how, family, watch)
    from ema_lab.search.workers import run_search

    end = time.monotonic() + seconds if seconds is not None else float("inf")
    watch(events.SearchStarted(study, limit))
    try:
        run_search(
            Trier(search, train, limit, how.max_attempts, device),
            study,
            workers=workers,
            gpus=gpus if len(gpus) > 1 else (),
            is_over=lambda: time.monotonic() >= end,
            watch=lambda ended: watch(events.TrialEnded(ended) if ended else events.SearchProgress()),
        )
    finally:
        watch(events.SearchEnded())


def prepare(sweep: Sweep, how: Execution, family: Ablation, watch: Watch) -> tuple[Callable[..., Any], str]:
    """Check models and data before the first trial; return what trains a run, and the device.

    The number of threads is kept in the store, for `family`, the ablation that the search is about. Resized
    images that the first trial has to make are a `Remark`.

    Raises:
        DefinitionError: With a line for each reason why a model does not fit.
    """
    from ema_lab.tracking.live import check_tracker

    check_tracker(how.track)
    check_space(sweep)
    sets, root = data_of(sweep.examples()), Path(how.data)
    for data in sets:
        check_files(data, root)
    for remark in copies_remarks(copies_of(sets, root)):
        watch(remark)
    threads = settled_threads(how.run_store, family, how.threads, how.device)
    return _train_function(replace(how, threads=threads))


def check_space(sweep: Sweep) -> None:
    """Build the distinct models of a space on the meta device, before anything is trained.

    Raises:
        DefinitionError: With a line for each reason why a model does not fit.
    """
    from ema_lab.execution.claim import note_sources
    from ema_lab.tasks.task import check_run

    note_sources(sweep.examples())
    check_examples(sweep, check_run)


def _train_function(how: Execution) -> tuple[Callable[..., Any], str]:
    from ema_lab.one_run.pipeline import Machine, load_training, train_run
    from ema_lab.training.machine import choose_device

    load_training()
    device = str(choose_device(how.device))
    machine = Machine(how.data_folder, how.device, how.threads, how.loader_workers, how.attention_kernel)
    return partial(train_run, machine=machine, track=how.track), device


def smoke_sweep(sweep: Sweep, how: Execution) -> bool:
    """Train two steps of the first trial in a temporary store; return whether that succeeds."""
    from ema_lab.execution.executor import execute
    from ema_lab.execution.smoke import smoke_spec
    from ema_lab.store.store import RunStore

    check_space(sweep)
    train, device = _train_function(how)
    with tempfile.TemporaryDirectory(prefix="ema-lab-smoke-") as folder:
        specs = [smoke_spec(sweep.examples()[0])]
        return not execute(specs, train=train, store=RunStore(folder), device=device).failed


def best_first(study: History) -> list[EndedTrial]:
    """Return the finished trials, the best first; with several objectives, the Pareto front."""
    several = len(study.objectives) > 1
    return study.best() if several else [trial for trial in study.ranked() if trial.values is not None]
