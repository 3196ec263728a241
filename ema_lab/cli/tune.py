"""Command `tune`: an equal search for every row of an ablation, then a fair comparison of the winners."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import FolderOptions, MachineOptions, execution_options, expanded
from ema_lab.cli.options import MOST, AblationName, Json, Only, Storage
from ema_lab.cli.output import print_rows, put
from ema_lab.errors import SpecError
from ema_lab.workflow.search.sweep import SearchOptions
from ema_lab.workflow.search.tune import DEFAULT_SPACE, Space, TuneOutcome
from ema_lab.workflow.search.tune import tune as tune_rows
from ema_lab.workflow.selection import read_seeds
from ema_lab.workflow.text import read_duration


@dataclass(frozen=True)
class TuningOptions:
    """Budget, space and strategy of the searches, and the file of the result."""

    trials: Annotated[
        int,
        typer.Option("--trials", min=1, max=MOST, help="Trials for each row, beside its recipe as written."),
    ]
    space: Annotated[str, typer.Option("--space", help="Sweep file with the parameters to search.")] = (
        DEFAULT_SPACE
    )
    search_seeds: Annotated[
        str | None,
        typer.Option("--search-seeds", metavar="0,2", help="Seeds of each trial; by default the space's."),
    ] = None
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="tpe, gp, random, cmaes; by default the space's.")
    ] = None
    pruner: Annotated[
        str | None,
        typer.Option("--pruner", help="asha, hyperband, median, none; by default the space's."),
    ] = None
    sampler_seed: Annotated[
        int, typer.Option("--sampler-seed", help="Seed of the sampler, the same for every row.")
    ] = 0
    only: Only = None
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The tuned ablation: ablations/NAME-tuned.yaml."),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Begin no trial of any row after this time: 45m."),
    ] = None
    storage: Storage = None

    def options(self) -> SearchOptions:
        """Return the settings of each search."""
        seconds = read_duration("--budget", self.budget)
        return SearchOptions(self.sampler, self.pruner, self.sampler_seed, self.storage, seconds)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(tune))


def tune(
    ablation: AblationName,
    tuning: TuningOptions,
    machine: MachineOptions,
    folders: FolderOptions,
    as_json: Json = False,
) -> int:
    """Search with an equal budget for every row.

    Each row's winner is trained on fresh seeds, and those are compared. A row's recipe is first tried as it
    is written; it stays if no trial beats it. Trials are compared on
    validation images and enter no table; the winners are written as an ablation of their own. Call the
    command again to go on after a kill, or to print the result again.

    Example: ema-lab tune quickstart --space lr_weight_decay_digits --trials 4
    """
    outcome = tune_rows(
        ablation,
        tuning.trials,
        space=Space(tuning.space, _read_seeds(tuning.search_seeds)),
        only=tuning.only,
        out=tuning.out,
        options=tuning.options(),
        watch=Display(),
        **execution_options(machine, folders),
    )
    if outcome.final is not None:
        _print(outcome, as_json=as_json)
    return 0 if outcome.ok else 1


def _read_seeds(text: str | None) -> list[int] | None:
    seeds = read_seeds("--search-seeds", text)
    if isinstance(seeds, int):  # an earlier release read the seed itself, other options a number of seeds
        raise SpecError(f"--search-seeds takes seeds, such as 0,1; write {seeds}, for the seed {seeds} alone")
    return None if seeds is None else list(seeds)


def _print(outcome: TuneOutcome, *, as_json: bool) -> None:
    from ema_lab.tables.render import render_text
    from ema_lab.workflow.search.tuned_table import TunedTable

    tables = TunedTable(outcome)
    if as_json:
        put(json.dumps(tables.records(), indent=1, allow_nan=False))
        return
    print_rows(tables.searches(), as_json=False)
    put()
    sys.stdout.write(render_text(tables.comparison))
