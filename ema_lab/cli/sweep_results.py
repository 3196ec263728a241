"""Commands that read a search and do not change it: sweep show, plot, export."""

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.options import Json, Objectives, Storage, Store, SweepName
from ema_lab.cli.output import make_folder, print_rows, put, say
from ema_lab.cli.trial_output import BEST_SHOWN, say_stale, trial_table
from ema_lab.errors import SpecError, StoreError
from ema_lab.files import write_text
from ema_lab.search.history import History, find_history
from ema_lab.search.report.trials import (
    counts_text,
    seeds_text,
    trial_records,
    trials_markdown,
)
from ema_lab.search.sweep import load_sweep
from ema_lab.tracking.mirror.push import Target, check_project, push
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.status import existing_store
from ema_lab.workflow.sweep import best_first

FORMATS = (".csv", ".json")
MIRROR_LOCK = "mirror"  # the one that push takes


def _found(sweep: str, objective: list[str] | None, store: Path, storage: str | None) -> History:
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
    """Print a search's best trials; of several objectives, the Pareto front.

    --json has the same trials with all that is known of them: seeds, seconds, why one was pruned or failed.

    Example: ema-lab sweep show quick_search --all
    """
    history = _found(sweep, objective, store, storage)
    trials = history.ranked() if everything else best_first(history)
    most = len(trials) if everything else BEST_SHOWN
    rows = trial_records(history, trials[:most]) if as_json else trial_table(history, trials, most)
    print_rows(rows, as_json=as_json)
    say(f"{history.study.study_name}: {counts_text(history)} ({seeds_text(history)})")
    say_stale(history)
    if left := len(history.trials()) - len(rows):
        say(f"{left} more with --all")


def plot(
    sweep: SweepName,
    out: Annotated[Path, typer.Option("--out", help="Folder for figures, trials.md and trials.csv.")],
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Draw a search: importance, slices, contours, history, values by epoch, Pareto front; and its trials.

    Each figure is a PDF, an SVG and a PNG of one column's width with a caption beside it (.txt).

    Example: ema-lab sweep plot quick_search --out out/search
    """
    from ema_lab.search.report.figures import search_figures
    from ema_lab.tables.render import render_csv

    history = _found(sweep, objective, store, storage)
    figures = search_figures(history)
    files = {
        "trials.md": trials_markdown(history),
        "trials.csv": render_csv(trial_records(history, history.ranked())),
    }
    make_folder(out)
    for name, text in files.items():
        write_text(out / name, text, durable=False)
    drawn = [path for figure in figures for path in figure.write(out)]
    put("\n".join(map(str, [*(out / name for name in files), *drawn])))
    say(*(f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None))
    say_stale(history)


def export(
    sweep: SweepName,
    out: Annotated[Path | None, typer.Option("--out", help="A file.csv or file.json to write.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="wandb: mirror each trial as a run there.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="With --to; by default WANDB_PROJECT, else ema-lab.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="With --to: remove mirrored runs that are no trials any more.")
    ] = False,
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write every trial with its values, parameters, runs, seeds and seconds; or mirror them to W&B.

    --to wandb sends only what is missing there or has changed, so it can be called again at any time. Without
    an account it writes offline runs and prints the command that sends them.

    Example: ema-lab sweep export quick_search --out trials.csv
    """
    if (out is None) is (to is None):
        raise SpecError("say --out FILE.csv, --out FILE.json or --to wandb, one of them")
    for option, given in (("--project", project is not None), ("--prune", prune)):
        if given and to is None:
            raise SpecError(f"{option} is W&B's: it goes with --to wandb")
    if to not in {None, "wandb"}:
        raise SpecError(f"--to takes wandb, got {to!r}")
    if out is not None and out.suffix not in FORMATS:
        raise SpecError(f"--out takes a file.csv or file.json, got {out}")
    history = _found(sweep, objective, store, storage)
    if out is None:
        _mirror(history, project, prune=prune)
        return
    records = trial_records(history, history.trials())
    _write(out, _text(records, out.suffix))
    say(f"{history.study.study_name}: {counts_text(history)}; {len(records)} trials in {out}")
    say_stale(history)


def _mirror(history: History, project: str | None, *, prune: bool) -> None:
    """Bring W&B, or the offline runs for it, up to the study."""
    from ema_lab.search.mirror import FOLDER, trial_runs
    from ema_lab.tracking.mirror.wandb import WandbMirror
    from ema_lab.tracking.names import wandb_project

    if importlib.util.find_spec("wandb") is None:
        raise SpecError("wandb is not installed; pip install 'ema-lab[wandb]'")
    name, store, runs = check_project(project or wandb_project()), history.store, trial_runs(history)
    with store.claim(MIRROR_LOCK) as claimed:
        if not claimed:
            raise StoreError(f"another export or push from {store.root} is under way; wait for its end")
        target = WandbMirror(store.root, name, history.sweep.name, FOLDER)
        done = push(runs, target, lambda run, sent: None)
        lines = list(_strangers(history, target, {run.run_id for run in runs}, prune=prune))
    counts = Counter(done.values())
    told = ", ".join(f"{counts[state]} {state}" for state in ("sent", "replaced", "unchanged"))
    say(f"{history.study.study_name} -> {target.destination}: {told}", *lines)
    say_stale(history)
    if hint := target.sync_command if target.offline else target.url:
        say(f"hint: {hint}")


def _strangers(history: History, target: Target, known: set[str], *, prune: bool) -> Iterator[str]:
    """Yield which mirrored runs of a study are no trials of it any more; take them out if that is asked for.

    The sweep's other studies, of other spaces or objectives, keep theirs.
    """
    study = history.study.study_name
    for mirror_id, name in target.orphans(known).items():
        if not mirror_id.startswith(f"{study}-"):
            continue
        if prune:
            target.remove(mirror_id)
            yield f"removed, no trial of {study} any more: {name} ({mirror_id})"
        else:
            yield f"no trial of {study} any more: {name} ({mirror_id}); --prune removes it"


def _text(records: list[dict[str, Any]], suffix: str) -> str:
    from ema_lab.tables.render import render_csv

    return render_csv(records) if suffix == ".csv" else json.dumps(records, indent=1, allow_nan=False) + "\n"


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text, durable=False)
    except OSError as error:
        raise SpecError(f"--out {out} cannot be written: {error.strerror}") from None
