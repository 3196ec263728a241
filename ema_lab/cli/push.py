"""Command `push`: mirror an ablation to an experiment tracker, from the store alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from ema_lab.cli.mirror_output import MirrorDisplay, action_counts, orphan_lines
from ema_lab.cli.options import AblationName, Json, Only, Seeds, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.cli.store_argument import command_arguments
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.publish.push import push as push_ablation
from ema_lab.workflow.selection import read_seeds
from ema_lab.workflow.text import stale_lines

MOST_NAMES = 5


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(push)


def push(
    ablation: AblationName,
    to: Annotated[str, typer.Option("--to", help="wandb, trackio, tensorboard or mlflow.")],
    project: Annotated[
        str | None, typer.Option("--project", help="By default WANDB_PROJECT, else ema-lab.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove mirrored runs of cells that no longer exist.")
    ] = False,
    only: Only = None,
    seeds: Seeds = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Rebuild an ablation's mirror from the store.

    Group, configs, curves, summaries, a results table.

    Only what is missing there or has changed is sent, so it can be stopped and repeated at any time.
    Without an account at W&B, offline runs are written, and the command that sends them is printed.

    Example: ema-lab push quickstart --to trackio
    """
    with MirrorDisplay() as display:
        outcome = push_ablation(
            ablation,
            to,
            project=project,
            prune=prune,
            only=only,
            seeds=read_seeds("--seeds", seeds),
            store=store,
            watch=display,
        )
    rows, mirrored, name = outcome.rows(), outcome.mirrored, outcome.ablation.name
    print_rows(rows, as_json=as_json)
    counts = action_counts(mirrored)
    say(f"{name} -> {mirrored.mirror.destination}: {counts}, the results table included")
    say(*_missing_lines(rows), *orphan_lines(mirrored, f"cell of {name}"))
    if outcome.cut_curves:
        say(f"without a whole curve in the store: {_shortened(outcome.cut_curves)}")
    stale = Counter(row["stale"] for row in rows if row["stale"])
    say(*stale_lines(command_arguments(ablation, store), stale))
    if mirrored.next_step:
        say(f"hint: {mirrored.next_step}")


def _missing_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line per state with the cells that have no result to mirror."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row["mirror"] is None:
            names.setdefault(row["status"], []).append(f"{row['variant']} seed {row['seed']}")
    for state, members in names.items():
        yield f"not mirrored, {state}: {_shortened(members)}"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
