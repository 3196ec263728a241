"""The command that compares tuned rows fairly: tune."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
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
from ema_lab.errors import DefinitionError, SpecError
from ema_lab.search.history import Ended
from ema_lab.search.objective import read_objectives
from ema_lab.search.report.naming import value_words
from ema_lab.search.report.trials import stale_words
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
    winner,
    write_tuned,
)
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

DEFAULT_SPACE = "lr_weight_decay"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(tune)


def tune(
    ablation: AblationName,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials for each row, over all calls.")],
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
    device: Device = "auto",
    loader_workers: LoaderWorkers = 0,
    track: Track = None,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Search with an equal budget for every row, train each winner on fresh seeds, and compare those.

    Trials choose by validation images and enter no table; what they chose is written as an ablation of
    its own. Call it again to go on after a kill, or to see the result again.

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
    how = Execution(workers, device, track, max_attempts, data, loader_workers)
    tuning = Tuning(chosen, shared, searches, trials_in_all(searches[0][1], trials, None) or trials, path)
    found = _search_all(tuning, how, read_duration("--timeout", timeout))
    if lacking := missing(found, tuning.budget):
        words = ", ".join(f"{row} lacks {count}" for row, count in lacking.items())
        rule = "unequal budgets are not compared; call it again to go on"
        say(f"of {tuning.budget} trials a row, {words}: {rule}")
        return 1
    return _finish(tuning, found, how, RunStore(store), as_json=as_json)


@dataclass(frozen=True)
class Tuning:
    """What is tuned: an ablation's rows, each with its search, `budget` trials each; `path`: the result."""

    ablation: Ablation
    space: Sweep
    searches: Sequence[tuple[str, Search]]
    budget: int
    path: Path


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
    objectives = read_objectives(sweep.spec, ())
    strategy = choose_strategy(sweep, objectives, sampler=sampler, pruner=pruner, seed=seed)
    name = f"{sweep.name}-tune-{strategy.sampler}-{strategy.pruner}-{strategy.seed}"
    return row, Search(replace(sweep, name=name), objectives, strategy, store, storage)


def _search_all(tuning: Tuning, how: Execution, seconds: float | None) -> list[RowSearch]:
    """Give every row its trials, as far as the time allows."""
    end = time.monotonic() + seconds if seconds is not None else None
    found = [_state(row, search, tuning.budget, how.max_attempts) for row, search in tuning.searches]
    if lacking := missing(found, tuning.budget):
        check_runs(tuning.ablation)
        for row, search in tuning.searches:
            left = end - time.monotonic() if end is not None else None
            if row in lacking and (left is None or left > 0):
                say(f"{row}: {search.study_name}")
                run_one_search(search, how, tuning.budget, left, warm_start=False)
        found = [_state(row, search, tuning.budget) for row, search in tuning.searches]
    return found


def _state(row: str, search: Search, budget: int, max_attempts: int | None = None) -> RowSearch:
    """Return where a row's search stands. `max_attempts`: failed trials that have any left wait again."""
    study = SweepStudy(search)
    if max_attempts is not None:
        study.renew(max_attempts)
    return RowSearch(row, search.sweep, search.study_name, own_trials(study.trials(), budget))


def _finish(
    tuning: Tuning, found: Sequence[RowSearch], how: Execution, store: RunStore, *, as_json: bool
) -> int:
    """Write the tuned ablation, train it, and print what it shows."""
    objective = tuning.searches[0][1].objectives[0]
    best = {one.row: winner(one.trials, objective) for one in found}
    winners = {row: trial for row, trial in best.items() if trial is not None}
    for row in best.keys() - winners.keys():
        say(f"{row}: none of its {tuning.budget} trials was finished, so it has no winner and is a hole")
    failed = sum(one.failed for one in found)
    say(*(f"{one.row}: {one.failed} of {tuning.budget} trials FAILED" for one in found if one.failed))
    say(*(f"{one.row}: {words}" for one in found if (words := stale_words(one.trials))))
    if not winners:
        say("no row has a winner: nothing is written")
        return 1
    _write(tuning, found, winners, store)
    tuned = load_ablation(tuning.path)
    code = run_ablation(tuned, store, how, as_json=False)
    _print(tuning, found, winners, store, as_json=as_json)
    return 1 if failed or code else 0


def _write(tuning: Tuning, found: Sequence[RowSearch], winners: Mapping[str, Ended], store: RunStore) -> None:
    ablation, space = tuning.ablation, tuning.space
    used = {*space.seeds, *searched_seeds(ablation, store, tuning.searches[0][1].storage)}
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
    search = tuning.searches[0][1]
    strategy, objective = search.strategy, search.objectives[0]
    images = {one.sweep.examples()[0].data.val_images for one in found}
    lines = [
        f"of {tuning.ablation.name}, searched in {tuning.space.name}: {tuning.budget} trials a row,",
        f"sampler {strategy.sampler}, pruner {strategy.pruner}, sampler seed {strategy.seed}, "
        f"seeds {list(tuning.space.seeds)}, {' or '.join(map(str, sorted(images)))} validation images.",
        f"The best {objective.name} of {tuning.budget} trials is biased upwards and no result; "
        "the runs of this file, on seeds that no trial has seen, are.",
    ]
    for one in found:
        trial = winners.get(one.row)
        shown = (
            f"trial {trial.number}, {objective.name} {_value(trial):.6g}" if trial else "no finished trial"
        )
        stale = stale_words(one.trials)
        lines.append(f"  {one.row}: {one.study_name}, {shown}{'; ' if stale else ''}{stale}")
    return lines


def _value(trial: Ended) -> float:
    assert trial.values is not None
    return trial.values[0]


def _print(
    tuning: Tuning,
    found: Sequence[RowSearch],
    winners: Mapping[str, Ended],
    store: RunStore,
    *,
    as_json: bool,
) -> None:
    from ema_lab.reports.report import build_report
    from ema_lab.specs.report import ReportSpec
    from ema_lab.tables.render import flat_records, render_text

    tuned = load_ablation(tuning.path)
    columns = ["top1", *(["delta"] if tuned.baseline else []), "parameters", "macs"]
    tree = {"name": tuned.name, "ablation": str(tuning.path), "columns": columns}
    table = build_report(ReportSpec.model_validate(tree), store).tables[0]
    rows = [_row(tuning, one, winners.get(one.row), short=not as_json) for one in found]
    if as_json:
        records = dict(zip((row.key for row in table.rows), flat_records(table), strict=True))
        put(json.dumps([{**row, **records.get(row["row"], {})} for row in rows], indent=1, allow_nan=False))
        return
    print_rows(rows, as_json=False)
    put()
    sys.stdout.write(render_text(table))


def _row(tuning: Tuning, one: RowSearch, trial: Ended | None, *, short: bool) -> dict[str, Any]:
    """Return what was chosen for a row, each value beside the ablation's own."""
    cell = tuning.ablation.rows()[one.row][0]
    states = [each.state for each in one.trials]
    objective = tuning.searches[0][1].objectives[0]
    row: dict[str, Any] = {
        "row": one.row,
        **{state: states.count(state) for state in ("done", "pruned", "failed")},
        "stale trials": sum(bool(each.stale) for each in one.trials),
        "trial": trial.number if trial else None,
        f"search {objective.name}": _value(trial) if trial else None,
    }
    for key in (parameter.key for parameter in tuning.space.parameters):
        name = key.rpartition(".")[2] if short else key
        default = value_of(cell, key)
        row[name] = _shown(trial.choice[key], short=short) if trial else None
        row[f"default {name}"] = None if default is ABSENT else _shown(default, short=short)
    return row if short else {**row, "study": one.study_name}


def _shown(value: Any, *, short: bool) -> Any:
    return value_words(value) if short or not isinstance(value, str | int | float) else value
