"""The command that compares tuned rows fairly: tune."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import ABSENT, value_of
from ema_lab.cli.duration import read_duration
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
    put,
    say,
)
from ema_lab.cli.run import Execution, check_runs, run_ablation
from ema_lab.cli.selection import Attempts, Only, selected
from ema_lab.cli.sweep import SearchWorkers, Storage, run_one_search, trials_in_all
from ema_lab.cli.threads import NumThreads
from ema_lab.errors import DefinitionError, SpecError
from ema_lab.search.history import Ended, has_searches
from ema_lab.search.objective import Objective, read_objectives
from ema_lab.search.report.naming import value_words
from ema_lab.search.report.trials import repeats_words, stale_words
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.tuning import (
    RowSearch,
    check_place,
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
from ema_lab.search.winner import (
    AS_WRITTEN,
    final_notes,
    search_notes,
    trial_name,
    winner,
    written_runs,
    written_trial,
)
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

DEFAULT_SPACE = "lr_weight_decay"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(tune)


def tune(
    ablation: AblationName,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Trials for each row, beside its recipe as written.")
    ],
    space: Annotated[
        str, typer.Option("--space", help="A sweep file: what of the recipe is searched.")
    ] = DEFAULT_SPACE,
    search_seeds: Annotated[
        str | None,
        typer.Option("--search-seeds", metavar="0,1", help="Seeds of each trial; by default the space's."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="tpe, gp, random, cmaes; by default as the space says.")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option("--pruner", help="asha, hyperband, median, none; by default as the space says."),
    ] = None,
    sampler_seed: Annotated[int, typer.Option("--sampler-seed", help="The same for every row.")] = 0,
    only: Only = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The tuned ablation: ablations/NAME-tuned.yaml."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Begin no trial of any row after this: 45m, 2h."),
    ] = None,
    storage: Storage = None,
    workers: SearchWorkers = None,
    threads: NumThreads = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = 0,
    track: Track = None,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Search with an equal budget for every row, train each winner on fresh seeds, and compare those.

    Before all trials each row's recipe is tried as it is written: what no trial beats stays as it is. Trials
    by validation images and enter no table; what they chose is written as an ablation of its own. Call it
    again to go on after a kill, or to see the result again.

    Example: ema-lab tune quickstart --space lr_weight_decay_digits --trials 4
    """
    chosen = selected(ablation, only, None)
    path = out or Path("ablations") / f"{chosen.name}-tuned.yaml"
    check_place(path)
    shared, left_out = space_for_all(load_sweep(space), _read_seeds(search_seeds))
    sweeps = _sweeps(chosen, shared, space)
    searches = [
        _search(row, one, (sampler, pruner, sampler_seed), store, storage) for row, one in sweeps.items()
    ]
    say(*shared.remarks())
    if left_out:
        say(f"{shared.path}: {', '.join(left_out)} left out: the rows of {chosen.name} are what is compared")
    how = Execution(
        workers, device, track, max_attempts, data, loader_workers, threads=threads, threads_of=chosen
    )
    tuning = Tuning(chosen, shared, searches, trials_in_all(searches[0][1], trials, None) or trials, path)
    found = _search_all(tuning, how, read_duration("--timeout", timeout))
    if lacking := missing(found, tuning.budget):
        words = ", ".join(f"{row} lacks {count}" for row, count in lacking.items())
        rule = "unequal budgets are not compared; call it again to go on"
        say(f"of {tuning.budget} trials a row and its recipe as written, {words}: {rule}")
        return 1
    return _finish(tuning, found, how, as_json=as_json)


@dataclass(frozen=True)
class Tuning:
    """What is tuned: an ablation's rows, each with its search, `budget` trials each; `path`: the result."""

    ablation: Ablation
    space: Sweep
    searches: Sequence[tuple[str, Search]]
    budget: int
    path: Path

    @property
    def store(self) -> RunStore:
        return self.searches[0][1].store

    @property
    def objective(self) -> Objective:
        return self.searches[0][1].objectives[0]


def _read_seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise SpecError(f"--search-seeds takes different whole numbers from 0, such as 0,1, got {text!r}")
    return list(map(int, parts))


def _sweeps(ablation: Ablation, shared: Sweep, space: str) -> dict[str, Sweep]:
    try:
        return row_sweeps(ablation, shared)
    except DefinitionError as error:
        lines = "\n".join(dict.fromkeys(map(str, error.problems)))
        advice = f"--space {space} does not apply to {ablation.name}; give another: ema-lab list sweeps"
        raise SpecError(f"{lines}\n{advice}") from None


def _search(
    row: str, sweep: Sweep, options: tuple[str | None, str | None, int], store: Path, storage: str | None
) -> tuple[str, Search]:
    """Return a row's search. Its name says how it chooses: trials chosen in another way are not its own."""
    sampler, pruner, seed = options
    objectives = read_objectives(sweep, ())
    strategy = choose_strategy(sweep, objectives, sampler=sampler, pruner=pruner, seed=seed)
    name = f"{sweep.name}-tune-{strategy.sampler}-{strategy.pruner}-{strategy.seed}"
    if strategy.pruner == "none" and not has_searches(RunStore(store), name, storage):
        # A row may well be called none; searches that were begun under the old name go on under it.
        name = f"{sweep.name}-tune-{strategy.sampler}-unpruned-{strategy.seed}"
    return row, Search(replace(sweep, name=name), objectives, strategy, store, storage)


def _search_all(tuning: Tuning, how: Execution, seconds: float | None) -> list[RowSearch]:
    """Give every row its recipe as written, then its trials, as far as the time allows."""
    end = time.monotonic() + seconds if seconds is not None else None
    found = [_state(tuning, row, search, how.max_attempts, renew=True) for row, search in tuning.searches]
    if lacking := missing(found, tuning.budget):
        check_runs(tuning.ablation)
        if any(one.written is None for one in found) and (end is None or time.monotonic() < end):
            sweeps = {row: search.sweep for row, search in tuning.searches}
            run_ablation(written_runs(tuning.ablation, sweeps), tuning.store, how, as_json=False)
        for row, search in tuning.searches:
            left = end - time.monotonic() if end is not None else None
            if row in lacking and (left is None or left > 0):
                strategy = search.strategy
                pruning = "unpruned" if strategy.pruner == "none" else f"pruned by {strategy.pruner}"
                say(f"row {row!r}: {strategy.sampler}, {pruning}, study {search.study_name}")
                run_one_search(search, how, tuning.budget, left, warm_start=False)
        # A recipe that has failed once in this call is over for it; the next call tries it again.
        found = [_state(tuning, row, search, 1) for row, search in tuning.searches]
    return found


def _state(tuning: Tuning, row: str, search: Search, max_attempts: int, *, renew: bool = False) -> RowSearch:
    """Return where a row's search stands. `renew`: failed trials that have attempts left wait again."""
    study = SweepStudy(search)
    if renew:
        study.renew(max_attempts)
    written = written_trial(search.sweep, search.store, search.objectives, max_attempts)
    trials = own_trials(study.trials(), tuning.budget)
    return RowSearch(row, search.sweep, search.study_name, trials, written)


def _finish(tuning: Tuning, found: Sequence[RowSearch], how: Execution, *, as_json: bool) -> int:
    """Write the tuned ablation, train it, and print what it shows."""
    best = {one.row: winner(one.candidates, tuning.objective) for one in found}
    winners = {row: trial for row, trial in best.items() if trial is not None}
    for row in best.keys() - winners.keys():
        say(f"{row}: none of its {tuning.budget} trials was finished, so it has no winner and is a hole")
    failed = sum(one.failed + (one.written is not None and one.written.state == "failed") for one in found)
    say(*(f"{one.row}: {one.failed} of {tuning.budget} trials FAILED" for one in found if one.failed))
    for words_of in (stale_words, repeats_words):
        say(*(f"{one.row}: {words}" for one in found if (words := words_of(one.candidates))))
    if not winners:
        say("no row has a winner: nothing is written")
        return 1
    _write(tuning, found, winners)
    code = run_ablation(load_ablation(tuning.path), tuning.store, how, as_json=False)
    _print(tuning, found, winners, as_json=as_json)
    return 1 if failed or code else 0


def _write(tuning: Tuning, found: Sequence[RowSearch], winners: Mapping[str, Ended]) -> None:
    ablation, space = tuning.ablation, tuning.space
    used = {*space.seeds, *searched_seeds(ablation, tuning.store, tuning.searches[0][1].storage)}
    seeds = fresh_seeds(len({cell.seed for cell in ablation.cells}), used)
    values = {row: trial.choice for row, trial in winners.items()}
    words = f"{ablation.name} with the {', '.join(key.key for key in space.parameters)} found for each row."
    definition = tuned_definition(tuning.path.stem, ablation, values, seeds, words)
    wanted = {
        row: final_run(cells[0], values[row], space, seeds[0])
        for row, cells in ablation.rows().items()
        if row in values
    }
    lengths = other_epochs(found, winners, wanted)
    comment = [*_comment(tuning, found, winners), *lengths]
    if write_tuned(tuning.path, tuned_text(definition, comment), wanted):
        say(f"{tuning.path}: written")
    say(*lengths)


def _comment(tuning: Tuning, found: Sequence[RowSearch], winners: Mapping[str, Ended]) -> list[str]:
    """Return where the tuned values come from, in lines."""
    strategy, objective = tuning.searches[0][1].strategy, tuning.objective
    images = {one.sweep.examples()[0].data.val_images for one in found}
    lines = [
        f"of {tuning.ablation.name}, searched in {tuning.space.name}: {tuning.budget} trials a row "
        "beside its recipe as written,",
        f"sampler {strategy.sampler}, pruner {strategy.pruner}, sampler seed {strategy.seed}, "
        f"seeds {list(tuning.space.seeds)}, {' or '.join(map(str, sorted(images)))} validation images.",
        f"The best {objective.name} of {tuning.budget} trials is biased upwards and no result; "
        "the runs of this file, on seeds that no trial has seen, are.",
    ]
    for one in found:
        trial = winners.get(one.row)
        shown = f"{_named(trial)}, {objective.name} {_value(trial):.6g}" if trial else "no finished trial"
        more = [*filter(None, [stale_words(one.candidates)])]
        more += search_notes(one.sweep, objective, one.written, trial)
        lines.append("; ".join([f"  row {one.row!r}: study {one.study_name}, {shown}", *more]))
    return lines


def _named(trial: Ended) -> str:
    return "as written" if trial.number == AS_WRITTEN else f"trial {trial.number}"


def _value(trial: Ended) -> float:
    assert trial.values is not None
    return trial.values[0]


def _print(
    tuning: Tuning,
    found: Sequence[RowSearch],
    winners: Mapping[str, Ended],
    *,
    as_json: bool,
) -> None:
    from ema_lab.reports.report import build_report
    from ema_lab.specs.report import ReportSpec
    from ema_lab.tables.render import flat_records, render_text

    tuned = load_ablation(tuning.path)
    columns = [tuned.task.primary, *(["delta"] if tuned.baseline else []), "parameters", "macs"]
    tree = {"name": tuned.name, "ablation": str(tuning.path), "columns": columns}
    table = build_report(ReportSpec.model_validate(tree), tuning.store).tables[0]
    notes = {one.row: list(_notes(tuning, one, winners.get(one.row), tuned)) for one in found}
    rows = [_row(tuning, one, winners.get(one.row), short=not as_json) for one in found]
    if as_json:
        records = dict(zip((row.key for row in table.rows), flat_records(table), strict=True))
        told = [{**row, "notes": "; ".join(notes[row["row"]]), **records.get(row["row"], {})} for row in rows]
        put(json.dumps(told, indent=1, allow_nan=False))
        return
    print_rows(rows, as_json=False)
    put()
    lines = tuple(f"{row}: {note}." for row, words in notes.items() for note in words)
    sys.stdout.write(render_text(replace(table, notes=(*table.notes, *lines))))


def _notes(tuning: Tuning, one: RowSearch, trial: Ended | None, tuned: Ablation) -> Iterator[str]:
    """Yield what to know of a row before its number is believed."""
    yield from search_notes(one.sweep, tuning.objective, one.written, trial)
    if one.row in tuned.rows():
        cells = tuned.rows()[one.row]
        primary = cells[0].spec.data.task.primary
        yield from final_notes(cells, tuning.ablation.rows()[one.row], tuning.store, primary)


def _row(tuning: Tuning, one: RowSearch, trial: Ended | None, *, short: bool) -> dict[str, Any]:
    """Return what was chosen for a row, each value beside the ablation's own."""
    cell = tuning.ablation.rows()[one.row][0]
    states = [each.state for each in one.trials]
    name, written = tuning.objective.name, one.written
    row: dict[str, Any] = {
        "row": one.row,
        **{state: states.count(state) for state in ("done", "pruned", "failed")},
        "stale trials": sum(bool(each.stale) for each in one.candidates),
        "trial": trial_name(trial) if trial else None,
        f"search {name}": _value(trial) if trial else None,
        f"as written {name}": _value(written) if written and written.values else None,
    }
    for key in (parameter.key for parameter in tuning.space.parameters):
        name = key.rpartition(".")[2] if short else key
        default = value_of(cell, key)
        chosen = trial.choice.get(key, default) if trial else ABSENT  # as written, it is the default
        row[name] = None if chosen is ABSENT else _shown(chosen, short=short)
        row[f"default {name}"] = None if default is ABSENT else _shown(default, short=short)
    return row if short else {**row, "study": one.study_name}


def _shown(value: Any, *, short: bool) -> Any:
    return value_words(value) if short or not isinstance(value, str | int | float) else value
