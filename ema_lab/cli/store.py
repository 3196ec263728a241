"""Command group `store`: check, gc, export, import, remeasure, rm."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.options import Json, Only, Seeds, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import SpecError
from ema_lab.store.layout import SUPERSEDED
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.garbage import remove_runs
from ema_lab.wording import number_of
from ema_lab.workflow.events import Event, RunChecked
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.selection import read_seeds
from ema_lab.workflow.upkeep import (
    RunChoice,
    changed_metrics,
    check_runs,
    collect_garbage,
    export_store,
    merge_store,
    remeasure_runs,
    required_store,
)

PROGRESS_SECONDS = 5.0
HELP = """Maintain the runs: check, gc, export, import, rm.

Example: ema-lab store check
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    commands = typer.Typer(name="store", help=HELP, no_args_is_help=True)
    for name, command, summary in (
        ("check", check, "Read every file of every run, name what is damaged"),
        ("gc", gc, "Free space: optimizer state, litter, orphans"),
        ("export", export_records, "Write all records to one file"),
        ("import", import_runs, "Merge another store's runs into this one"),
        ("remeasure", remeasure, "Metrics again from stored predictions"),
        ("rm", remove, "Remove runs with all their files, after asking"),
    ):
        commands.command(name, short_help=summary)(command)
    app.add_typer(commands, context_settings={"help_option_names": ["-h", "--help"]})


class _Progress:
    """Observer that prints the number of checked runs every few seconds, and nothing for a small store."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunChecked) and time.monotonic() - self._last > PROGRESS_SECONDS:
            self._last = time.monotonic()
            say(f"{event.number} of {number_of(event.total, 'run')} checked")


def check(
    quick: Annotated[bool, typer.Option("--quick", help="Skip the checkpoints.")] = False,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help=f"Move damaged runs' files to {SUPERSEDED}/: they are pending."),
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Read every file of every run; name what is damaged.

    Exit code 1 if a file is.

    Example: ema-lab store check --quick
    """
    checked = check_runs(
        required_store(store), checkpoints=not quick, quarantine=set_aside, watch=_Progress()
    )
    print_rows(checked.rows(), as_json=as_json)
    damaged = checked.damaged
    scope = " without their checkpoints" if quick else ""
    say(f"{number_of(checked.num_runs, 'run')} checked{scope}: {len(damaged)} damaged")
    if set_aside:
        say(*checked.renamed)
        say(f"{len(checked.quarantined)} of them set aside: `ema-lab run` trains them again")
    elif damaged:
        say("hint: --set-aside moves their files aside, and `ema-lab run` trains them again")
    return 1 if damaged else 0


def gc(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove the items; by default they are only counted.")
    ] = False,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights/--drop-weights", help="Whether finished runs keep the weights they report."
        ),
    ] = True,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also quarantined files: superseded results, damaged files.")
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Free space that finished runs do not need.

    Optimizer state of finished runs, half-written files, orphans.

    Without --apply nothing is removed. A run that a process works on keeps everything.

    Example: ema-lab store gc --apply
    """
    garbage = collect_garbage(
        required_store(store),
        apply=apply,
        drop_weights=not keep_weights,
        superseded=superseded,
        watch=Display(),
    )
    print_rows(garbage.rows(), as_json=as_json)
    mib = f"{garbage.num_bytes / 2**20:.1f} MiB"
    say(f"{mib} freed" if apply else f"{mib} can be freed; nothing is removed without --apply")


def export_records(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .jsonl, .csv or .parquet.")],
    store: Store = DEFAULT_STORE,
) -> int:
    """Write all records to one file.

    A flat object or row per run, with spec, metrics, cost, environment.

    Each has the names of its ablations and rows, as far as the definitions in this folder and the bundled
    ones have the run.

    Runs that cannot be read are named and left out; exit code 1 then.

    Example: ema-lab store export --out runs.jsonl
    """
    number, unreadable = export_store(required_store(store), out)
    say(*unreadable, f"{number_of(number, 'record')} written to {out}")
    return 1 if unreadable else 0


def import_runs(
    source: Annotated[
        Path, typer.Argument(help="Another store: its folder, or a .tar, .tar.gz or .zip of it.")
    ],
    prefer: Annotated[
        str | None,
        typer.Option("--prefer", metavar="ours|theirs", help="Which run to keep where both differ."),
    ] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Merge another store's runs into this one.

    Exit code 1 if runs conflict or something is left out.

    Links, pipes, devices and paths that lead out of the source are left out, each named in a line.
    Runs with the same id and the same metrics agree. Conflicting runs are not imported without --prefer.

    Example: ema-lab store import /media/other/runs
    """
    merge = merge_store(source, RunStore(store), prefer)
    say(*(f"left out of {source}: {line}" for line in merge.skipped))
    rows = merge.rows()
    if not as_json:
        rows = [row for row in rows if row["result"] not in {"new", "equal"}]
    print_rows(rows, as_json=as_json)
    summary = ", ".join(f"{number} {result}" for result, number in sorted(merge.counts.items()))
    say(f"{number_of(merge.num_runs, 'run')} in {source}: {summary or 'nothing to import'}")
    if merge.counts["conflict"]:
        say("hint: --prefer ours or --prefer theirs settles conflicts")
    return 0 if merge.ok else 1


def remeasure(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids, or unambiguous prefixes.")
    ] = None,
    ablation: Annotated[str | None, typer.Option("--ablation", help="All runs of this ablation.")] = None,
    only: Only = None,
    seeds: Seeds = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Compute metrics again from stored predictions.

    Nothing is trained. Without runs and --ablation, those of all finished runs. Predictions that are not
    those of the record are refused, and the run named; exit code 1 then. Curves keep the metrics of their
    epochs.

    Example: ema-lab store remeasure --ablation quickstart
    """
    runs = required_store(store)
    results = remeasure_runs(runs, RunChoice(run_ids or (), ablation, only, read_seeds("--seeds", seeds)))
    print_rows(changed_metrics(results), as_json=as_json)
    say(*(f"{each.run_id}: left as it is: {each.reason}" for each in results if each.result == "refused"))
    counts = Counter(each.result for each in results)
    summary = ", ".join(f"{counts[result]} {result}" for result in ("changed", "equal", "refused"))
    say(f"{number_of(len(results), 'run')} measured again: {summary}")
    return 1 if counts["refused"] else 0


def remove(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Run ids, or unambiguous prefixes.")
    ] = None,
    ablation: Annotated[str | None, typer.Option("--ablation", help="All runs of this ablation.")] = None,
    only: Only = None,
    seeds: Seeds = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Remove runs with all their files, after asking.

    Refused while a process works on one.

    Example: ema-lab store rm --ablation quickstart --only variant=se
    """
    runs = required_store(store)
    if not run_ids and not ablation:
        raise SpecError("name either runs or --ablation")
    chosen = RunChoice(run_ids or (), ablation, only, read_seeds("--seeds", seeds)).in_store(runs)
    states = {run_id: runs.state(run_id) for run_id in chosen}
    say(*(f"{run_id}  {state}" for run_id, state in states.items()))
    if chosen and not yes and not _confirmed(f"remove {number_of(len(chosen), 'run')} from {store}?"):
        say("nothing was removed")
        return
    remove_runs(runs, states)
    say(f"{number_of(len(chosen), 'run')} removed from {store}")


def _confirmed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not (sys.stdin.isatty() and answer):
            say("")  # nobody's Enter has ended the line of the question
    if not answer:
        raise SpecError(
            "rm asks for confirmation, and standard input is closed: --yes removes without asking"
        )
    return answer.strip().lower() in {"y", "yes"}
