"""Commands that read a search and do not change it: sweep show, plot, export, push."""

from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.mirror_output import action_counts, orphan_lines
from ema_lab.cli.options import Json, Objectives, Storage, Store, SweepName
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.trial_output import BEST_SHOWN, say_optimism, say_stale, trial_table
from ema_lab.errors import SpecError
from ema_lab.search.history import History, find_history
from ema_lab.search.report.trials import counts_text, seeds_text, trial_records
from ema_lab.search.sweep import load_sweep
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.search.sweep import best_first


def _history(sweep: str, objective: list[str] | None, store: Path, storage: str | None) -> History:
    return find_history(load_sweep(sweep), objective or (), existing_store(store), storage)


def show(
    sweep: SweepName,
    everything: Annotated[
        bool, typer.Option("--all", help="All trials, pruned and failed ones too; else the best.")
    ] = False,
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Print a search's best trials.

    Of several objectives, the Pareto front.

    --json prints every field of these trials: seeds, seconds, why a trial was pruned or failed.

    Example: ema-lab sweep show quick_search --all
    """
    history = _history(sweep, objective, store, storage)
    trials = history.ranked() if everything else best_first(history)
    most = len(trials) if everything else BEST_SHOWN
    rows = trial_records(history, trials[:most]) if as_json else trial_table(history, trials, most)
    print_rows(rows, as_json=as_json)
    say(f"{history.study.study_name}: {counts_text(history)} ({seeds_text(history)})")
    say_optimism(history)
    say_stale(history)
    if hidden := len(history.trials()) - len(rows):
        say(f"{hidden} more with --all")


def plot(
    sweep: SweepName,
    out: Annotated[Path, typer.Option("--out", help="Folder for figures, trials.md and trials.csv.")],
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Draw a search, and write its table of trials.

    Importance, slices, contours, history, values by epoch, Pareto front.

    Each figure is a PDF, an SVG and a PNG of one column's width with a caption beside it (.txt).

    Example: ema-lab sweep plot quick_search --out out/search
    """
    from ema_lab.workflow.search.export import plot_search

    history = _history(sweep, objective, store, storage)
    files, figures = plot_search(history, out)
    put("\n".join(map(str, files)))
    say(*(f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None))
    say_optimism(history)
    say_stale(history)


def export(
    sweep: SweepName,
    out: Annotated[Path, typer.Option("--out", help="A file.csv or file.json to write.")],
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write every trial to a file.

    With its values, parameters, runs, seeds and seconds.

    Example: ema-lab sweep export quick_search --out trials.csv
    """
    from ema_lab.workflow.search.export import check_export_path, export_trials

    check_export_path(out)
    history = _history(sweep, objective, store, storage)
    count = export_trials(history, out)
    say(f"{history.study.study_name}: {counts_text(history)}; {number_of(count, 'trial')} in {out}")
    say_optimism(history)
    say_stale(history)


def push(
    sweep: SweepName,
    to: Annotated[str, typer.Option("--to", help="wandb: mirror each trial as a run there.")],
    project: Annotated[
        str | None, typer.Option("--project", help="By default WANDB_PROJECT, else ema-lab.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove mirrored runs of trials that no longer exist.")
    ] = False,
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Mirror every trial to W&B.

    Only what is missing there or has changed is sent, so it may be repeated at any time. Without an account
    it writes offline runs and prints the command that sends them.

    Example: ema-lab sweep push quick_search --to wandb
    """
    if to != "wandb":
        raise SpecError(f"--to takes wandb, got {to!r}")
    _mirror(_history(sweep, objective, store, storage), project, prune=prune)


def _mirror(history: History, project: str | None, *, prune: bool) -> None:
    from ema_lab.workflow.search.export import mirror_trials

    mirrored = mirror_trials(history, project, prune=prune)
    study = history.study.study_name
    say(f"{study} -> {mirrored.mirror.destination}: {action_counts(mirrored)}")
    say(*orphan_lines(mirrored, f"trial of {study}"))
    say_optimism(history)
    say_stale(history)
    if mirrored.next_step:
        say(f"hint: {mirrored.next_step}")
