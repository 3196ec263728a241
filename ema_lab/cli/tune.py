"""Command `tune`: an equal search for every row of an ablation, then a fair comparison of the winners."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import ABSENT, value_of
from ema_lab.cli.display import Display
from ema_lab.cli.duration import read_duration
from ema_lab.cli.options import (
    AblationName,
    Attempts,
    Data,
    Device,
    Json,
    LoaderWorkers,
    NumThreads,
    Only,
    Storage,
    Store,
    Track,
    Workers,
)
from ema_lab.cli.output import print_rows, put
from ema_lab.errors import SpecError
from ema_lab.search.history import EndedTrial
from ema_lab.search.report.labels import value_text
from ema_lab.search.tuning import RowSearch
from ema_lab.search.winner import final_notes, search_notes, trial_name
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.sweep import SearchOptions
from ema_lab.workflow.tune import DEFAULT_SPACE, Space, TuneOutcome, Tuning, trial_value
from ema_lab.workflow.tune import tune as tune_rows


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(tune)


def tune(
    ablation: AblationName,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Trials for each row, beside its recipe as written.")
    ],
    space: Annotated[
        str, typer.Option("--space", help="Sweep file with the parameters to search.")
    ] = DEFAULT_SPACE,
    search_seeds: Annotated[
        str | None,
        typer.Option("--search-seeds", metavar="0,1", help="Seeds of each trial; by default the space's."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="tpe, gp, random, cmaes; by default the space's.")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option("--pruner", help="asha, hyperband, median, none; by default the space's."),
    ] = None,
    sampler_seed: Annotated[
        int, typer.Option("--sampler-seed", help="Seed of the sampler, the same for every row.")
    ] = 0,
    only: Only = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The tuned ablation: ablations/NAME-tuned.yaml."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Begin no trial of any row after this time: 45m."),
    ] = None,
    storage: Storage = None,
    workers: Workers = None,
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

    Each row's recipe is first tried as it is written; it stays if no trial beats it. Trials are compared on
    validation images and enter no table; the winners are written as an ablation of their own. Call the
    command again to go on after a kill, or to print the result again.

    Example: ema-lab tune quickstart --space lr_weight_decay_digits --trials 4
    """
    seconds = read_duration("--timeout", timeout)
    outcome = tune_rows(
        ablation,
        trials,
        space=Space(space, _read_seeds(search_seeds)),
        only=only,
        out=out,
        options=SearchOptions(sampler, pruner, sampler_seed, storage, seconds),
        watch=Display(),
        workers=workers,
        device=device,
        track=track,
        max_attempts=max_attempts,
        store=store,
        data=data,
        loader_workers=loader_workers,
        threads=threads,
    )
    if outcome.final is not None:
        _print(outcome, as_json=as_json)
    return 0 if outcome.ok else 1


def _read_seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise SpecError(f"--search-seeds takes different whole numbers from 0, such as 0,1, got {text!r}")
    return list(map(int, parts))


def _print(outcome: TuneOutcome, *, as_json: bool) -> None:
    from ema_lab.reports.report import build_report
    from ema_lab.specs.report import ReportSpec
    from ema_lab.tables.render import flat_records, render_text

    tuning, searches, winners = outcome.tuning, outcome.searches, outcome.winners
    tuned = load_ablation(tuning.path)
    columns = [tuned.task.primary, *(["delta"] if tuned.baseline else []), "parameters", "macs"]
    tree = {"name": tuned.name, "ablation": str(tuning.path), "columns": columns}
    table = build_report(ReportSpec.model_validate(tree), tuning.store).tables[0]
    notes = {one.row: list(_notes(tuning, one, winners.get(one.row), tuned)) for one in searches}
    rows = [_row(tuning, one, winners.get(one.row), short=not as_json) for one in searches]
    if as_json:
        records = dict(zip((row.key for row in table.rows), flat_records(table), strict=True))
        merged = [
            {**row, "notes": "; ".join(notes[row["row"]]), **records.get(row["row"], {})} for row in rows
        ]
        put(json.dumps(merged, indent=1, allow_nan=False))
        return
    print_rows(rows, as_json=False)
    put()
    lines = tuple(f"{row}: {note}." for row, words in notes.items() for note in words)
    sys.stdout.write(render_text(replace(table, notes=(*table.notes, *lines))))


def _notes(tuning: Tuning, one: RowSearch, trial: EndedTrial | None, tuned: Ablation) -> Iterator[str]:
    """Yield the reservations about a row's result, such as a winner at the edge of the space."""
    yield from search_notes(one.sweep, tuning.objective, one.written, trial)
    if one.row in tuned.rows():
        cells = tuned.rows()[one.row]
        primary = cells[0].spec.data.task.primary
        yield from final_notes(cells, tuning.ablation.rows()[one.row], tuning.store, primary)


def _row(tuning: Tuning, one: RowSearch, trial: EndedTrial | None, *, short: bool) -> dict[str, Any]:
    """Return the values of a row's winner, each beside the value in the ablation."""
    cell = tuning.ablation.rows()[one.row][0]
    states = [each.state for each in one.trials]
    name, written = tuning.objective.name, one.written
    row: dict[str, Any] = {
        "row": one.row,
        **{state: states.count(state) for state in ("done", "pruned", "failed")},
        "stale trials": sum(bool(each.stale) for each in one.candidates),
        "trial": trial_name(trial) if trial else None,
        f"search {name}": trial_value(trial) if trial else None,
        f"as written {name}": trial_value(written) if written and written.values else None,
    }
    for key in (parameter.key for parameter in tuning.space.parameters):
        name = key.rpartition(".")[2] if short else key
        default = value_of(cell, key)
        chosen = trial.choice.get(key, default) if trial else ABSENT  # as written, it is the default
        row[name] = None if chosen is ABSENT else _shown(chosen, short=short)
        row[f"default {name}"] = None if default is ABSENT else _shown(default, short=short)
    return row if short else {**row, "study": one.study_name}


def _shown(value: Any, *, short: bool) -> Any:
    return value_text(value) if short or not isinstance(value, str | int | float) else value
