"""Commands that look after a store: store check, gc, export, import, remeasure, rm."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.options import Json, Only, Seeds, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import SpecError, StoreError
from ema_lab.store.layout import RUN_ID, SUPERSEDED
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep import garbage as clean
from ema_lab.store.upkeep.export import export
from ema_lab.store.upkeep.integrity import check_store, quarantine_damaged_runs
from ema_lab.store.upkeep.merge import Side, import_store, open_store
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.selection import selected

TELL_SECONDS = 5.0
HELP = """Look after the runs: check, gc, export, import, remeasure, rm.

Example: ema-lab store check
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    commands = typer.Typer(name="store", help=HELP, no_args_is_help=True)
    for name, command in (
        ("check", check), ("gc", gc), ("export", export_records), ("import", import_runs),
        ("remeasure", remeasure), ("rm", remove),
    ):  # fmt: skip
        commands.command(name)(command)
    app.add_typer(commands, context_settings={"help_option_names": ["-h", "--help"]})


def _existing(path: Path) -> RunStore:
    if not path.exists():
        raise StoreError(f"there is no store {path}; name one with --store or EMA_LAB_STORE")
    return RunStore(path)


def _telling(words: str) -> Callable[[int, int], None]:
    """Return what shows progress every few seconds, and nothing for a small store."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > TELL_SECONDS:
            last = time.monotonic()
            say(f"{done} of {total} runs {words}")

    return tell


def check(
    quick: Annotated[bool, typer.Option("--quick", help="Leave the checkpoints out.")] = False,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help=f"Move damaged runs' files to {SUPERSEDED}/: they are pending."),
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Read every file of every run and name what is damaged; exit code 1 if anything is.

    Example: ema-lab store check --quick
    """
    runs = _existing(store)
    load = None if quick else _checkpoint_loader()
    from ema_lab.tasks.classification.stored import problem_of

    found = list(check_store(runs, problem_of, load, _telling("checked")))
    rows = [
        {"run_id": f.run_id or None, "file": f.file, "damaged": f.damaged, "problem": f.problem}
        for f in found
    ]
    print_rows(rows, as_json=as_json)
    damaged = sorted({finding.run_id for finding in found if finding.damaged})
    total = len(runs.folder_names())
    say(f"{total} runs checked{' without their checkpoints' if quick else ''}: {len(damaged)} damaged")
    if set_aside:
        moved = quarantine_damaged_runs(runs, damaged, problem_of, load)
        say(f"{len(moved)} of them set aside: `ema-lab run` trains them again")
    elif damaged:
        say("hint: --set-aside moves their files aside, and `ema-lab run` trains them again")
    return 1 if damaged else 0


def _checkpoint_loader() -> Callable[[Path], Mapping[str, Any]]:
    from ema_lab.training.slimming import load_checkpoint

    return load_checkpoint


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove it; without this, only say what.")] = False,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights/--drop-weights", help="Whether finished runs keep the weights they report."
        ),
    ] = True,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also what was set aside: superseded results, damaged files.")
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Free space: what only resuming needs of finished runs, half-written files, orphans.

    Says what would go; --apply removes it. A run that a process works on keeps everything.

    Example: ema-lab store gc --apply
    """
    runs = _existing(store)
    from ema_lab.training.slimming import slim, surplus_bytes

    policy = clean.Policy(
        clean.Slimming(_surplus_or_none(surplus_bytes), slim),
        drop_weights=not keep_weights,
        superseded=superseded,
    )
    freed: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for litter in list(clean.find_litter(runs, policy)):
        size = clean.remove(runs, litter, policy) if apply else litter.size_bytes
        if size is None:
            continue
        freed[litter.kind] += size
        count[litter.kind] += 1
    rows = [{"kind": kind, "count": count[kind], "bytes": freed[kind]} for kind in count]
    print_rows(rows, as_json=as_json)
    mib = f"{sum(freed.values()) / 2**20:.1f} MiB"
    say(f"{mib} freed" if apply else f"{mib} can be freed; nothing is removed without --apply")


def _surplus_or_none(surplus: Callable[[Path], int]) -> Callable[[Path], int]:
    """Leave a checkpoint that cannot be read as it is: `store check` tells of it."""

    def measure(path: Path) -> int:
        try:
            return surplus(path)
        except Exception as error:  # torch raises what its readers raise
            say(f"{path} cannot be read and is kept: {type(error).__name__}")
            return 0

    return measure


def export_records(
    file: Annotated[Path, typer.Argument(help="Ends in .jsonl or .parquet.")], store: Store = DEFAULT_STORE
) -> int:
    """Write all records to one file: a flat object or row per run, with spec, metrics, cost, environment.

    Runs that cannot be read are named and left out; exit code 1 then.

    Example: ema-lab store export runs.jsonl
    """
    count, unreadable = export(_existing(store), file)
    say(*unreadable, f"{count} records written to {file}")
    return 1 if unreadable else 0


def import_runs(
    source: Annotated[
        Path, typer.Argument(help="Another store: its folder, or a .tar, .tar.gz or .zip of it.")
    ],
    prefer: Annotated[
        str | None,
        typer.Option("--prefer", metavar="ours|theirs", help="Whose run counts where both differ."),
    ] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Merge another store's runs into this one; exit code 1 if runs conflict or something is left out.

    Links, pipes, devices and paths that lead out of the source are left out, each named in a line.
    Runs with the same id and the same metrics agree. Of a conflict nothing is taken without --prefer.

    Example: ema-lab store import /media/other/runs
    """
    if prefer not in {None, "ours", "theirs"}:
        raise SpecError(f"--prefer must be ours or theirs, got {prefer!r}")
    side: Side | None = prefer  # type: ignore[assignment]
    runs = RunStore(store)
    if source.is_dir() and runs.root.exists() and source.samefile(runs.root):
        raise SpecError(f"{source} is this store itself")
    with runs.claim(clean.IMPORT_LOCK) as claimed:
        if not claimed:
            raise StoreError(f"another process imports into {store}")
        left_out: list[str] = []
        with open_store(source, runs.root, left_out) as other:
            found = list(import_store(runs, other, side))
    say(*(f"left out of {source}: {line}" for line in left_out))
    counts = Counter(item.result for item in found)
    rows: list[dict[str, Any]] = [
        {"run_id": item.run_id, "result": item.result, "detail": item.detail or None} for item in found
    ]
    if not as_json:
        rows = [row for row in rows if row["result"] not in {"new", "equal"}]
    print_rows(rows, as_json=as_json)
    summary = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    num_runs = len({item.run_id for item in found})
    say(f"{num_runs} runs in {source}: {summary or 'nothing to import'}")
    if counts["conflict"]:
        say("hint: --prefer ours or --prefer theirs settles conflicts")
    return 1 if left_out or counts["conflict"] + counts["unreadable"] + counts["left out"] else 0


def remeasure(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids, or enough of their beginnings.")
    ] = None,
    ablation: Annotated[str | None, typer.Option("--ablation", help="All runs of this ablation.")] = None,
    only: Only = None,
    seeds: Seeds = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Compute the metrics of finished runs again from their stored predictions, without training.

    Without runs and --ablation, of all finished runs. Predictions that are not those of the record are
    refused, and the run named; exit code 1 then. Curves keep the metrics of their epochs.

    Example: ema-lab store remeasure --ablation quickstart
    """
    runs = _existing(store)
    chosen = _chosen(runs, run_ids, ablation, only, seeds)
    if not run_ids:  # of many runs, those that are not done are nothing to tell of
        chosen = [run_id for run_id in chosen if runs.facts(run_id).done]
    from ema_lab.store.upkeep.remeasure import remeasure as remeasured
    from ema_lab.tasks.classification.stored import problem_of
    from ema_lab.tasks.task import stored_metrics

    found = list(remeasured(runs, chosen, stored_metrics, problem_of))
    names = {one.run_id: dict.fromkeys([*one.before, *one.after]) for one in found}
    rows = [
        {"run_id": one.run_id, "metric": name, "before": one.before.get(name), "after": one.after.get(name)}
        for one in found
        for name in names[one.run_id]
        if one.before.get(name) != one.after.get(name)
    ]
    print_rows(rows, as_json=as_json)
    say(*(f"{one.run_id}: left as it is: {one.reason}" for one in found if one.result == "refused"))
    counts = Counter(one.result for one in found)
    summary = ", ".join(f"{counts[result]} {result}" for result in ("changed", "equal", "refused"))
    say(f"{len(found)} run{'s' * (len(found) != 1)} measured again: {summary}")
    return 1 if counts["refused"] else 0


def _chosen(
    runs: RunStore,
    run_ids: Sequence[str] | None,
    ablation: str | None,
    only: Sequence[str] | None,
    seeds: int | None,
) -> list[str]:
    """Return the runs that a command names, or those that an ablation has here; without either, all."""
    if run_ids and ablation:
        raise SpecError("name either runs or --ablation")
    if ablation is None and (only or seeds):
        raise SpecError("--only and --seeds choose cells of an --ablation")
    if ablation is not None:
        present = runs.folder_names()
        return [spec.run_id for spec in selected(ablation, only, seeds).runs() if spec.run_id in present]
    return list(dict.fromkeys(_found(runs, run_id) for run_id in run_ids or runs.run_ids()))


def remove(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Run ids, or enough of their beginnings.")
    ] = None,
    ablation: Annotated[str | None, typer.Option("--ablation", help="All runs of this ablation.")] = None,
    only: Only = None,
    seeds: Seeds = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Remove runs with all their files, after asking; refused while a process works on one.

    Example: ema-lab store rm --ablation quickstart --only variant=se
    """
    runs = _existing(store)
    if not run_ids and not ablation:
        raise SpecError("name either runs or --ablation")
    chosen = _chosen(runs, run_ids, ablation, only, seeds)
    words = "1 run" if len(chosen) == 1 else f"{len(chosen)} runs"
    states = {run_id: runs.state(run_id) for run_id in chosen}
    say(*(f"{run_id}  {state}" for run_id, state in states.items()))
    if chosen and not yes and not _confirmed(f"remove {words} from {store}?"):
        say("nothing was removed")
        return
    clean.remove_runs(runs, states)
    say(f"{words} removed from {store}")


def _found(runs: RunStore, run_id: str) -> str:
    """Return a run by the beginning of its id, or by its whole id if its spec is lost."""
    is_whole = RUN_ID.fullmatch(run_id) and run_id in runs.folder_names()
    return run_id if is_whole else runs.find(run_id)


def _confirmed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise SpecError("rm asks, and there is nobody to answer: --yes removes without asking")
    return answer.strip().lower() in {"y", "yes"}
