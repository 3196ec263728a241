"""Files and mirrors of a search from Python: the same as `ema-lab sweep plot` and `ema-lab sweep export`."""

import json
from collections.abc import Mapping
from pathlib import Path

from ema_lab.errors import SpecError
from ema_lab.files import write_text
from ema_lab.reports.figures.assemble import Drawn
from ema_lab.search.history import History
from ema_lab.search.mirror import FOLDER, trial_runs
from ema_lab.search.report.figures import search_figures
from ema_lab.search.report.trials import trial_records, trials_markdown
from ema_lab.tables.render import render_csv
from ema_lab.tracking.mirror.push import check_project
from ema_lab.tracking.mirror.wandb import WandbMirror
from ema_lab.tracking.names import wandb_project
from ema_lab.workflow.execution import Watch, ignore
from ema_lab.workflow.folders import make_folder
from ema_lab.workflow.mirror import Mirror, Mirrored, mirror_runs, require_package

FORMATS = (".csv", ".json")


def plot_search(history: History, folder: Path) -> tuple[list[Path], list[Drawn]]:
    """Write a search's figures, trials.md and trials.csv into a folder; return the files and the figures.

    A figure that cannot be drawn yet has only a caption, which says why.

    Raises:
        SpecError: If the folder cannot be created.
    """
    figures = search_figures(history)
    texts = {
        "trials.md": trials_markdown(history),
        "trials.csv": render_csv(trial_records(history, history.ranked())),
    }
    make_folder(folder)
    for name, text in texts.items():
        write_text(folder / name, text, durable=False)
    drawn = [path for figure in figures for path in figure.write(folder)]
    return [*(folder / name for name in texts), *drawn], figures


def export_trials(history: History, out: Path) -> int:
    """Write every trial to a file NAME.csv or NAME.json; return the number of trials.

    Raises:
        SpecError: If the file has another suffix or cannot be written.
    """
    check_export_path(out)
    records = trial_records(history, history.trials())
    text = (
        render_csv(records) if out.suffix == ".csv" else json.dumps(records, indent=1, allow_nan=False) + "\n"
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text, durable=False)
    except OSError as error:
        raise SpecError(f"--out {out} cannot be written: {error.strerror}") from None
    return len(records)


def check_export_path(out: Path) -> None:
    """Check the suffix of an export.

    Raises:
        SpecError: If it is neither .csv nor .json.
    """
    if out.suffix not in FORMATS:
        raise SpecError(f"--out takes a file.csv or file.json, got {out}")


def mirror_trials(
    history: History, project: str | None = None, *, prune: bool = False, watch: Watch = ignore
) -> Mirrored:
    """Mirror each trial as a run at W&B, or as offline runs; send only what is missing or has changed.

    Args:
        history: The search.
        project: W&B's project; None takes WANDB_PROJECT, else ema-lab.
        prune: Remove mirrored runs of trials that no longer exist.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        EmaLabError: If wandb is not installed, or W&B does not answer.
    """
    require_package("wandb")
    name, store, runs = check_project(project or wandb_project()), history.store, trial_runs(history)
    known, study = {run.run_id for run in runs}, history.study.study_name

    def find_orphans(mirror: Mirror) -> Mapping[str, str]:
        orphans = mirror.orphans(known)  # the sweep's other studies keep their runs
        return {mirror_id: name for mirror_id, name in orphans.items() if mirror_id.startswith(f"{study}-")}

    def open_mirror() -> Mirror:
        return WandbMirror(store.root, name, history.sweep.name, FOLDER)

    return mirror_runs(store, open_mirror, runs, find_orphans, prune=prune, watch=watch)
