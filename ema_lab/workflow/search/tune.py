"""Fair tuning: an equal search for every row of an ablation, then the winners on fresh seeds."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import DefinitionError, EmaLabError, SpecError
from ema_lab.search.history import EndedTrial, has_searches
from ema_lab.search.objective import Objective
from ema_lab.search.optimism import num_compared
from ema_lab.search.report.trials import repeats_text, stale_text
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.tuning import (
    RowSearch,
    check_output_path,
    final_run,
    fresh_seeds,
    missing,
    other_epochs,
    own_trials,
    row_sweeps,
    searched_seeds,
    space_for_all,
    tuned_definition,
    tuned_text,
    write_tuned,
)
from ema_lab.search.winner import AS_WRITTEN, final_notes, search_notes, winner, written_runs, written_trial
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow import events
from ema_lab.workflow.execution import Execution, ExecutionOptions, Watch, ignore
from ema_lab.workflow.outcome import GridOutcome
from ema_lab.workflow.search.sweep import Budget, SearchOptions, go_on, make_search, trials_in_all
from ema_lab.workflow.selection import Conditions, selected
from ema_lab.workflow.train.grid import check_runs, train_grid

DEFAULT_SPACE = "lr_weight_decay"


@dataclass(frozen=True)
class Space:
    """Search space of a tuning. `seeds`: those of each trial; None takes the file's.

    Example:
        >>> ema_lab.Space("lr_weight_decay_digits", seeds=[0, 1]).seeds
        [0, 1]
    """

    name: str = DEFAULT_SPACE
    seeds: Sequence[int] | None = None


@dataclass(frozen=True)
class Tuning:
    """An ablation's rows, each with its search of `budget` trials; `path`: file of the tuned ablation."""

    ablation: Ablation
    space: Sweep
    searches: Sequence[tuple[str, Search]]
    budget: int
    path: Path

    @property
    def store(self) -> RunStore:
        """The store of all runs."""
        return self.searches[0][1].store

    @property
    def objective(self) -> Objective:
        """The validation metric that chooses."""
        return self.searches[0][1].objectives[0]


@dataclass(frozen=True)
class TuneOutcome:
    """Result of a call of `tune`.

    Attributes:
        tuning: What is tuned.
        searches: The search of each row.
        missing: Trials that rows lack of the budget; if any, nothing was compared.
        winners: The best trial by row.
        final: Training of the tuned ablation; None if it was not written.
    """

    tuning: Tuning
    searches: Sequence[RowSearch]
    missing: Mapping[str, int]
    winners: Mapping[str, EndedTrial]
    final: GridOutcome | None = None

    @property
    def ok(self) -> bool:
        """Whether every trial and every run has a result."""
        return self.final is not None and self.final.ok and not any(map(failed_trials, self.searches))


def tune(
    ablation: str | Path,
    trials: int,
    *,
    space: Space | None = None,
    only: Conditions | None = None,
    out: Path | None = None,
    options: SearchOptions | None = None,
    watch: Watch = ignore,
    **execution: Unpack[ExecutionOptions],
) -> TuneOutcome:
    """Search with an equal budget for every row, train each winner on fresh seeds, and return both.

    Each row's recipe is first tried as written. A later call continues.

    Example:
        >>> space = ema_lab.Space("lr_weight_decay_digits", seeds=[0])
        >>> outcome = ema_lab.tune("quickstart", 2, space=space, only=["variant=none,se"], workers=1)
        >>> {row: sorted(trial.choice) for row, trial in outcome.winners.items()}
        {'none': ['recipe.optimizer.lr', 'recipe.optimizer.weight_decay'],
         'se': ['recipe.optimizer.lr', 'recipe.optimizer.weight_decay']}

    Args:
        ablation: A path, or the name of a definition.
        trials: Trials for each row, beside its recipe as written.
        space: Sweep file that says what of the recipe is searched, and the seeds of each trial.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        out: File of the tuned ablation; None is ablations/NAME-tuned.yaml.
        options: Sampler, pruner, storage and time limit.
        watch: Observer of the events of `ema_lab.workflow.events`.
        **execution: Fields of `ema_lab.workflow.execution.Execution`: workers, device, store, data, ...

    Raises:
        EmaLabError: If the request is wrong. A trial or run that fails raises nothing.
    """
    if trials < 1:
        raise SpecError(f"trials must be 1 or more, got {trials}")
    options, how = options or SearchOptions(), Execution(**execution)
    how.refuse_for_runs_alone("tune")
    tuning = _plan(selected(ablation, only), space or Space(), trials, out, options, Path(how.store), watch)
    searches = _search_all(tuning, how, options.seconds, watch)
    if lacking := missing(searches, tuning.budget):
        watch(events.TrialsMissing(tuning.budget, lacking))
        return TuneOutcome(tuning, searches, lacking, {})
    return _finish(tuning, searches, how, watch)


def _plan(
    ablation: Ablation,
    space: Space,
    trials: int,
    out: Path | None,
    options: SearchOptions,
    root: Path,
    watch: Watch,
) -> Tuning:
    """Return the searches of all rows, after every check that needs no torch."""
    path = out or Path("ablations") / f"{ablation.name}-tuned.yaml"
    check_output_path(path)
    seeds = list(space.seeds) if space.seeds is not None else None
    shared, left_out = space_for_all(load_sweep(space.name), seeds)
    sweeps = _sweeps(ablation, shared, space.name)
    searches = [(row, _named_search(row_sweep, options, root)) for row, row_sweep in sweeps.items()]
    for line in shared.remarks():
        watch(events.Remark("", line))
    if left_out:
        watch(events.SpaceReduced(ablation.name, shared.path, tuple(left_out)))
    budget = trials_in_all(searches[0][1], trials, None) or trials
    return Tuning(ablation, shared, searches, budget, path)


def _sweeps(ablation: Ablation, shared: Sweep, space: str) -> dict[str, Sweep]:
    try:
        return row_sweeps(ablation, shared)
    except DefinitionError as error:
        lines = "\n".join(dict.fromkeys(map(str, error.problems)))
        advice = f"--space {space} does not apply to {ablation.name}; give another: ema-lab list sweeps"
        raise SpecError(f"{lines}\n{advice}") from None


def _named_search(sweep: Sweep, options: SearchOptions, root: Path) -> Search:
    """Return a row's search. Its name tells how it chooses: trials chosen in another way do not count."""
    search = make_search(sweep, (), options, root)
    strategy = search.strategy
    name = f"{sweep.name}-tune-{strategy.sampler}-{strategy.pruner}-{strategy.seed}"
    if strategy.pruner == "none" and not has_searches(RunStore(root), name, options.storage):
        # A row may be called none; searches that were begun under the old name go on under it.
        name = f"{sweep.name}-tune-{strategy.sampler}-unpruned-{strategy.seed}"
    return replace(search, sweep=replace(sweep, name=name))


def _search_all(tuning: Tuning, how: Execution, seconds: float | None, watch: Watch) -> list[RowSearch]:
    """Try each row's recipe as written, then its trials, within the time limit."""
    end = time.monotonic() + seconds if seconds is not None else float("inf")
    searches = [
        _row_search(row, search, tuning, how.max_attempts, renew=True) for row, search in tuning.searches
    ]
    lacking = missing(searches, tuning.budget)
    if not lacking:
        return searches
    check_runs(tuning.ablation, watch)
    if any(search.written is None for search in searches) and time.monotonic() < end:
        sweeps = {row: search.sweep for row, search in tuning.searches}
        written = written_runs(tuning.ablation, sweeps)
        train_grid(written, how, watch, threads_of=tuning.ablation)
    for row, search in tuning.searches:
        left = end - time.monotonic()
        if row in lacking and left > 0:
            strategy = search.strategy
            watch(events.RowSearchStarted(row, strategy.sampler, strategy.pruner, search.study_name))
            budget = Budget(tuning.budget, left if seconds is not None else None, tuning.ablation)
            go_on(search, how, budget, watch, warm_start=False)
    # A recipe that has failed once in this call is over for it; the next call tries it again.
    return [_row_search(row, search, tuning, 1) for row, search in tuning.searches]


def _row_search(
    row: str, search: Search, tuning: Tuning, max_attempts: int, *, renew: bool = False
) -> RowSearch:
    """Read the state of a row's search. `renew`: queue failed trials that have attempts left again."""
    study = SweepStudy(search)
    if renew:
        study.renew(max_attempts)
    written = written_trial(search.sweep, search.store, search.objectives, max_attempts)
    trials = own_trials(study.trials(), tuning.budget)
    return RowSearch(row, search.sweep, search.study_name, trials, written)


def failed_trials(search: RowSearch) -> int:
    """Return the number of a row's failed trials, its recipe as written included."""
    return search.failed + (search.written is not None and search.written.state == "failed")


def _finish(tuning: Tuning, searches: Sequence[RowSearch], how: Execution, watch: Watch) -> TuneOutcome:
    """Write the tuned ablation and train it."""
    best = {search.row: winner(search.candidates, tuning.objective) for search in searches}
    winners = {row: trial for row, trial in best.items() if trial is not None}
    for row in best:
        if row not in winners:
            watch(events.WinnerMissing(row, tuning.budget))
    for search in searches:
        if search.failed:
            watch(events.TrialsFailed(search.row, search.failed, tuning.budget))
    for describe in (stale_text, repeats_text):
        for search in searches:
            if text := describe(search.candidates):
                watch(events.Remark(search.row, text))
    end = partial(TuneOutcome, tuning, searches, {}, winners)
    if not winners:
        watch(events.WinnerMissing(None, tuning.budget))
        return end()
    _write(tuning, searches, winners, watch)
    final = train_grid(load_ablation(tuning.path), how, watch, threads_of=tuning.ablation)
    _write(tuning, searches, winners, ignore)  # with the caveats about the final runs
    return end(final)


def _write(
    tuning: Tuning, searches: Sequence[RowSearch], winners: Mapping[str, EndedTrial], watch: Watch
) -> None:
    ablation, space = tuning.ablation, tuning.space
    used = {*space.seeds, *searched_seeds(ablation, tuning.store, tuning.searches[0][1].storage)}
    seeds = fresh_seeds(len({cell.seed for cell in ablation.cells}), used)
    values = {row: trial.choice for row, trial in winners.items()}
    description = (
        f"{ablation.name} with the {', '.join(key.key for key in space.parameters)} found for each row."
    )
    final_runs = {
        row: final_run(cells[0], values[row], space, seeds[0])
        for row, cells in ablation.rows().items()
        if row in values
    }
    caveats = tuning_caveats(tuning, searches, winners, final_runs)
    notes = [*_optimism(tuning, searches)]
    notes += [f"{row}: {caveat}." for row, lines in caveats.items() for caveat in lines]
    definition = tuned_definition(
        tuning.path.stem, ablation, values, seeds, description=description, notes=notes
    )
    lengths = other_epochs(searches, winners, final_runs)
    comment = [*_comment(tuning, searches, winners), *lengths]
    if write_tuned(tuning.path, tuned_text(definition, comment), final_runs):
        watch(events.FileWritten(tuning.path))
    for line in lengths:
        watch(events.Remark("", line))


def _optimism(tuning: Tuning, searches: Sequence[RowSearch]) -> Iterator[str]:
    """Yield the note that the values of the searches are optimistic, if a row has several."""
    counts = sorted({num_compared(search.candidates) for search in searches})
    if max(counts, default=0) > 1:
        best = f"the best of {' or '.join(map(str, counts))} by its {tuning.objective.name} in the search"
        yield (
            f"Each recipe is {best}, which is therefore optimistic; the numbers of this table are of seeds "
            "that no trial has seen."
        )


def tuning_caveats(
    tuning: Tuning,
    searches: Sequence[RowSearch],
    winners: Mapping[str, EndedTrial],
    final_runs: Mapping[str, RunSpec],
) -> dict[str, list[str]]:
    """Return the caveats about each row's winner and about its final runs, if trained.

    Args:
        tuning: What is tuned.
        searches: The search of each row.
        winners: The best trial by row.
        final_runs: First final run of each row. The tuned file may still hold earlier winners.
    """
    caveats = {
        search.row: [*search_notes(search.sweep, tuning.objective, search.written, winners.get(search.row))]
        for search in searches
    }
    for row, cells in tuned_rows(tuning).items():
        if row in final_runs and cells[0].run_id == final_runs[row].run_id:
            primary = cells[0].spec.data.task.primary
            caveats[row] += final_notes(cells, tuning.ablation.rows()[row], tuning.store, primary)
    return caveats


def tuned_rows(tuning: Tuning) -> Mapping[str, Sequence[Cell]]:
    """Return the rows of the tuned ablation; empty while its file is absent or damaged."""
    try:
        return load_ablation(tuning.path).rows()
    except EmaLabError:
        return {}


def _comment(tuning: Tuning, searches: Sequence[RowSearch], winners: Mapping[str, EndedTrial]) -> list[str]:
    """Return the origin of the tuned values, as lines of a comment in the tuned ablation."""
    strategy, objective = tuning.searches[0][1].strategy, tuning.objective
    images = {search.sweep.examples()[0].data.val_images for search in searches}
    lines = [
        f"of {tuning.ablation.name}, searched in {tuning.space.name}: "
        f"{number_of(tuning.budget, 'trial')} a row beside its recipe as written,",
        f"sampler {strategy.sampler}, pruner {strategy.pruner}, sampler seed {strategy.seed}, "
        f"seeds {list(tuning.space.seeds)}, validation images {' or '.join(map(str, sorted(images)))}.",
        f"The best {objective.name} of {number_of(tuning.budget, 'trial')} is biased upwards and no result; "
        "the runs of this file, on seeds that no trial has seen, are.",
    ]
    for search in searches:
        trial = winners.get(search.row)
        text = f"{_named(trial)}, {objective.name} {trial_value(trial):.6g}" if trial else "no finished trial"
        notes = [*filter(None, [stale_text(search.candidates)])]
        notes += search_notes(search.sweep, objective, search.written, trial)
        lines.append("; ".join([f"  row {search.row!r}: study {search.study_name}, {text}", *notes]))
    return lines


def _named(trial: EndedTrial) -> str:
    return "as written" if trial.number == AS_WRITTEN else f"trial {trial.number}"


def trial_value(trial: EndedTrial) -> float:
    """Return the value of a finished trial's only objective."""
    assert trial.values is not None
    return trial.values[0]
