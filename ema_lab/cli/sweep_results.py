"""What is made of a search: sweep show, plot, export. None of them changes it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.output import DEFAULT_STORE, Json, Store, make_folder, print_rows, say
from ema_lab.cli.sweep import BEST_SHOWN, Objectives, Storage, SweepName, best_first, shown_rows
from ema_lab.errors import SpecError
from ema_lab.experiments.search.history import History, find_history
from ema_lab.experiments.search.sweep import load_sweep
from ema_lab.experiments.store import RunStore
from ema_lab.files import write_text
from ema_lab.reports.search.trials import (
    counts_words,
    seeds_words,
    trial_records,
    trials_markdown,
)

FORMATS = (".csv", ".json")


def _found(sweep: str, objective: list[str] | None, store: Path, storage: str | None) -> History:
    return find_history(load_sweep(sweep), objective or (), RunStore(store), storage)


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
    rows = trial_records(history, trials[:most]) if as_json else shown_rows(history, trials, most)
    print_rows(rows, as_json=as_json)
    say(f"{history.study.study_name}: {counts_words(history)} ({seeds_words(history)})")
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
    from ema_lab.reports.render import render_csv
    from ema_lab.reports.search.figures import search_figures

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
    print("\n".join(map(str, [*(out / name for name in files), *drawn])))
    say(*(f"figure {figure.name}: {figure.caption}" for figure in figures if figure.drawing is None))


def export(
    sweep: SweepName,
    out: Annotated[Path | None, typer.Option("--out", help="A file.csv or file.json to write.")] = None,
    objective: Objectives = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write every trial with its values, parameters, runs, seeds and seconds, in the trials' order.

    Example: ema-lab sweep export quick_search --out trials.csv
    """
    if out is None or out.suffix not in FORMATS:
        raise SpecError(f"--out takes a file.csv or file.json, got {out}")
    history = _found(sweep, objective, store, storage)
    records = trial_records(history, history.trials())
    _write(out, _text(records, out.suffix))
    say(f"{history.study.study_name}: {counts_words(history)}; {len(records)} trials in {out}")


def _text(records: list[dict[str, Any]], suffix: str) -> str:
    from ema_lab.reports.render import render_csv

    return render_csv(records) if suffix == ".csv" else json.dumps(records, indent=1, allow_nan=False) + "\n"


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text, durable=False)
    except OSError as error:
        raise SpecError(f"--out {out} cannot be written: {error.strerror}") from None
