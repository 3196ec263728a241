"""The command that mirrors an ablation to an experiment tracker, from the store alone."""

import importlib.util
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from ema_lab.ablation.ablation import load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.cli.event_lines import stale_lines
from ema_lab.cli.options import AblationName, Json, Only, Seeds, Store
from ema_lab.cli.output import as_asked, print_rows, say
from ema_lab.errors import SpecError, StoreError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.tracking.mirror.content import MirrorRun, Snapshot
from ema_lab.tracking.mirror.push import Sent, Target, check_project
from ema_lab.tracking.mirror.push import push as bring_up
from ema_lab.tracking.mirror.trackio import TrackioMirror
from ema_lab.tracking.mirror.wandb import WandbMirror
from ema_lab.tracking.names import wandb_project
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.selection import selected
from ema_lab.workflow.status import existing_store

SHOWN = 5
LOCK = "mirror"
MIRRORS = ("trackio", "wandb")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(push)


def push(
    ablation: AblationName,
    to: Annotated[str, typer.Option("--to", help="wandb or trackio.")],
    project: Annotated[
        str | None, typer.Option("--project", help="By default WANDB_PROJECT, else ema-lab.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove mirrored runs that are no cells of the ablation any more.")
    ] = False,
    only: Only = None,
    seeds: Seeds = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Rebuild an ablation's mirror from the store: group, configs, curves, summaries, a results table.

    Only what is missing there or has changed is sent, so it can be stopped and called again at any time.
    Without an account at W&B, offline runs are written, and the command that sends them is printed.

    Example: ema-lab push quickstart --to trackio
    """
    if to not in MIRRORS:
        raise UnknownNameError(unknown_name("mirror", to, MIRRORS))
    runs = existing_store(store)
    full = load_ablation(ablation).with_stored_seeds(runs.folder_names())
    chosen = selected(ablation, only, seeds) if only or seeds else full
    name = check_project(project or wandb_project())
    snapshot = Snapshot.take(full, runs)
    content = snapshot.runs(runs, chosen.cells)
    if not content:
        raise StoreError(
            f"no run of {full.name} is done in {store}; ema-lab run {as_asked(ablation, store)} trains them"
        )
    if importlib.util.find_spec(to) is None:
        raise SpecError(f"{to} is not installed; pip install 'ema-lab[{to}]'")
    with runs.claim(LOCK) as claimed:
        if not claimed:
            raise StoreError(f"another push from {store} is under way; wait for its end")
        target = _target(to, runs.root, name, full.name)
        done = _send([*content, snapshot.results()], target)
        lines = list(_strangers(target, snapshot, prune))
    rows = [_row(cell, snapshot, done) for cell in chosen.cells]
    print_rows(rows, as_json=as_json)
    counts = Counter(done.values())
    told = ", ".join(f"{counts[state]} {state}" for state in ("sent", "replaced", "unchanged"))
    say(f"{full.name} -> {target.destination}: {told}, the results table included")
    say(*_holes(rows), *lines)
    if cut := snapshot.cut_curves(content):
        say(f"without a whole curve in the store: {_shortened(cut)}")
    stale = Counter(row["stale"] for row in rows if row["stale"])
    say(*stale_lines(as_asked(ablation, store), stale))
    if hint := _hint(target):
        say(f"hint: {hint}")


def _target(to: str, root: Path, project: str, group: str) -> WandbMirror | TrackioMirror:
    return TrackioMirror(project, group) if to == "trackio" else WandbMirror(root, project, group)


def _send(content: Sequence[MirrorRun], target: Target) -> dict[str, Sent]:
    console = Console(stderr=True)
    if not console.is_terminal:
        numbers = itertools.count(1)

        def say_so(run: MirrorRun, sent: Sent) -> None:
            line = f"[{next(numbers)}/{len(content)}] {sent}: {run.name} ({run.run_id})"
            if sent != "unchanged":
                say(line)

        return bring_up(content, target, say_so)
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task("pushing", total=len(content))
        return bring_up(content, target, lambda run, sent: bar.update(line, advance=1, description=run.name))


def _row(cell: Cell, snapshot: Snapshot, done: Mapping[str, Sent]) -> dict[str, Any]:
    standing = snapshot.standings[cell.run_id]
    return {
        "run_id": cell.run_id,
        "variant": cell.row,
        "seed": cell.seed,
        "status": standing.state,
        "stale": " ".join(standing.stale) or None,
        "mirror": done.get(cell.run_id),
    }


def _holes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which cells have no result to be mirrored."""
    for state, group in _by_state(rows).items():
        names = [f"{row['variant']} seed {row['seed']}" for row in group]
        yield f"not mirrored, {state}: {_shortened(names)}"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _by_state(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["mirror"] is None:
            found.setdefault(row["status"], []).append(row)
    return found


def _strangers(target: Target, snapshot: Snapshot, prune: bool) -> Iterator[str]:
    """Yield which mirrored runs are of no cell any more; take them out if that is asked for."""
    known = {*snapshot.standings, snapshot.results().run_id}
    for mirror_id, name in target.orphans(known).items():
        if prune:
            target.remove(mirror_id)
            yield f"removed, no cell of {snapshot.ablation.name} any more: {name} ({mirror_id})"
        else:
            yield f"no cell of {snapshot.ablation.name} any more: {name} ({mirror_id}); --prune removes it"


def _hint(target: WandbMirror | TrackioMirror) -> str:
    if isinstance(target, TrackioMirror):
        return f"trackio show --project {target.project}"
    return target.sync_command if target.offline else target.url
