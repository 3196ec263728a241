"""Command `sweep run`: search hyper-parameters, offline or with a W&B server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import FolderOptions, MachineOptions, execution_options
from ema_lab.cli.options import MOST, Json, Objectives, Storage, SweepName
from ema_lab.cli.output import print_rows, say
from ema_lab.cli.trial_output import say_optimism, say_stale, trial_table
from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.search.optimism import best_of_text
from ema_lab.search.report.trials import counts_text, repeats_text, seeds_text, trial_records
from ema_lab.search.sweep import load_sweep
from ema_lab.specs.sweep import VALIDATION
from ema_lab.wording import number_of
from ema_lab.workflow.execution import Execution
from ema_lab.workflow.search.sweep import SearchOptions, SearchOutcome, smoke_sweep
from ema_lab.workflow.search.sweep import sweep as search
from ema_lab.workflow.search.wandb_agents import AgentsOutcome, WandbProject, check_account, search_with_wandb
from ema_lab.workflow.text import read_duration

WITHOUT_MEMORY = {"grid", "random"}  # samplers that do not learn from earlier trials
ONLY_FOR: Mapping[str, tuple[str, ...]] = {  # options by the only chooser that takes them
    "optuna": (
        *("budget", "sampler", "pruner", "objective", "sampler_seed", "storage", "warm_start", "track"),
        "smoke",
    ),
    "wandb": ("project", "entity"),
}


@dataclass(frozen=True)
class StrategyOptions:
    """Chooser, budget, sampler and pruner of a search."""

    chooser: Annotated[
        str,
        typer.Option("--chooser", help="Who chooses the values: optuna, offline; or wandb, a W&B server."),
    ] = "optuna"
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", min=1, max=MOST, help="Trials over all calls; by default the file's run_cap."
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Begin no trial after this time: 45m, 2h."),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="tpe, gp, random, cmaes, nsga2, or grid; by default from the method: bayes is tpe.",
        ),
    ] = None
    pruner: Annotated[
        str | None,
        typer.Option(
            "--pruner",
            help="asha, hyperband, median (by epoch), wilcoxon (by seed, from 5), none; else the file's.",
        ),
    ] = None
    objective: Objectives = None
    sampler_seed: Annotated[
        int, typer.Option("--sampler-seed", help="Seed of the sampler's random choices.")
    ] = 0
    storage: Storage = None
    warm_start: Annotated[
        bool, typer.Option("--warm-start/--no-warm-start", help="Learn from finished runs of the store.")
    ] = True

    def options(self) -> SearchOptions:
        """Return the settings of a search with Optuna."""
        seconds = read_duration("--budget", self.budget)
        return SearchOptions(self.sampler, self.pruner, self.sampler_seed, self.storage, seconds)


@dataclass(frozen=True)
class WandbOptions:
    """Place of a sweep at W&B."""

    project: Annotated[
        str | None, typer.Option("--project", help="W&B's project; by default the file's, else ema-lab.")
    ] = None
    entity: Annotated[
        str | None, typer.Option("--entity", help="W&B's user or team; by default the file's, else yours.")
    ] = None


def run(
    context: typer.Context,
    sweep: SweepName,
    *,
    strategy: StrategyOptions,
    machine: MachineOptions,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Two steps of the first trial on made-up images, in a temporary store."),
    ] = False,
    wandb: WandbOptions,
    folders: FolderOptions,
    as_json: Json = False,
) -> int:
    """Try values until the search has --trials trials.

    The same file, in W&B's sweep format, runs offline or at W&B.

    Every trial consists of ordinary runs: finished runs cost nothing, and a pruned trial leaves a pending
    run with its checkpoint. Call the command again to continue, after a kill or with more --trials.

    A grid over a range follows W&B: int_uniform has every whole number from min to max; q_uniform has min,
    min + q, ... below max, without max itself.

    With --chooser wandb a W&B server chooses the values: the command creates a sweep on the server and runs
    its agents here, whose trials end up in the same store.

    Examples: ema-lab sweep quick_search --trials 8;  ema-lab sweep quick_search --objective top1:max
    --objective macs:min
    """
    _check_chooser(strategy.chooser, context, sweep)
    settings = execution_options(machine, folders)
    if smoke:
        return _smoke(sweep, Execution(**settings))
    if strategy.chooser == "wandb":
        return _search_with_wandb(sweep, strategy, wandb, Execution(**settings), as_json=as_json)
    outcome = search(
        sweep,
        trials=strategy.trials,
        objectives=strategy.objective or (),
        warm_start=strategy.warm_start,
        options=strategy.options(),
        watch=Display(),
        **settings,
    )
    _print_result(outcome, as_json=as_json)
    return 0 if outcome.ok else 1


def _check_chooser(chooser: str, context: typer.Context, sweep: str) -> None:
    """Refuse a chooser that does not exist or cannot start here, and options of the other one.

    Raises:
        SpecError: With the remedy.
        EngineError: If W&B has no account here.
    """
    if chooser not in ONLY_FOR:
        raise SpecError(unknown_name("chooser", chooser, tuple(ONLY_FOR)))
    for other, names in ONLY_FOR.items():
        for name in names if other != chooser else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise SpecError(f"--{name.replace('_', '-')} is for --chooser {other}; this is {chooser}")
    if chooser == "wandb":
        check_account(sweep)


def _smoke(sweep: str, execution: Execution) -> int:
    loaded = load_sweep(sweep)
    trains = smoke_sweep(loaded, execution)
    say(f"{loaded.name}: the first trial {'trains' if trains else 'failed'}")
    return 0 if trains else 1


def _search_with_wandb(
    sweep: str, strategy: StrategyOptions, wandb: WandbOptions, execution: Execution, *, as_json: bool
) -> int:
    loaded, project = load_sweep(sweep), WandbProject(wandb.project, wandb.entity)
    agents = search_with_wandb(loaded, strategy.trials, execution, project, Display())
    _print_agents(loaded.name, agents, as_json=as_json)
    return 0 if agents.ok else 1


def _print_agents(name: str, agents: AgentsOutcome, *, as_json: bool) -> None:
    metrics = list(
        dict.fromkeys(key for trial in agents.trials for key in trial if key.startswith(VALIDATION))
    )
    print_rows([_agent_row(agents.address, trial, metrics) for trial in agents.trials], as_json=as_json)
    if text := best_of_text(len(agents.trials) - agents.failed):
        say(f"{name}: {text}")
    say(
        f"{name}: {number_of(len(agents.trials), 'trial')}, {agents.failed} failed; "
        f"for more of them: wandb agent --forward-signals {agents.address}"
    )


def _agent_row(address: str, trial: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    values = {name: trial.get(name) for name in metrics}
    return {"sweep": address, "status": trial["status"], **values, "run_ids": " ".join(trial["run_ids"])}


def _print_result(outcome: SearchOutcome, *, as_json: bool) -> None:
    study, searched = outcome.study, outcome.search
    rows = trial_records(study, study.trials()) if as_json else trial_table(study, outcome.best)
    print_rows(rows, as_json=as_json)
    say(f"{searched.sweep.name}: {counts_text(study)} (store {searched.root}; {seeds_text(study)})")
    for trial in study.trials():
        if trial.state == "failed":
            say(f"failed: trial {trial.number}: {trial.message}")
    if repeats_text(study.trials()) and all(parameter.is_listed for parameter in searched.sweep.parameters):
        say("hint: every parameter is a list of values, and the method grid tries each choice once")
    say_optimism(study)
    say_stale(study)
    if any(trial.stale for trial in study.trials()) and searched.strategy.sampler not in WITHOUT_MEMORY:
        say("hint: the sampler learns from stale values; a renamed copy of the file starts without them")
    if not outcome.ok:
        say("hint: after fixing the cause, a larger --max-attempts retries them")
