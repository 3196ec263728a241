"""Commands about where runs stand: status, retry."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.output import (
    DEFAULT_STORE,
    AblationName,
    Json,
    Store,
    as_asked,
    existing_store,
    print_rows,
    put,
    say,
)
from ema_lab.cli.selection import Attempts, Only, Seeds, selected
from ema_lab.errors import UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.task import task_description
from ema_lab.store.attempts import forgive
from ema_lab.store.failure import FailedRun, FailureGroup, grouped
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.store.survey import Standing, Survey

SHOWN_RUNS = 10
IN_JSON_ONLY = ("cause", "signature")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(status)
    app.command()(retry)


def status(
    ablation: AblationName,
    only: Only = None,
    seeds: Seeds = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until nothing is pending.")] = False,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Show every cell: its state, attempts, result, and who works on it; then the failures by kind.

    Example: ema-lab status quickstart --watch
    """
    chosen = selected(ablation, only, seeds)
    runs = existing_store(store)
    while True:
        rows, failed = _survey(chosen, runs, max_attempts)
        if as_json:
            print_rows(rows, as_json=True)
        else:
            print_rows([_without(row, IN_JSON_ONLY) for row in rows], as_json=False)
        counts = Counter(row["status"] for row in rows)
        say(f"{chosen.name}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
        say(*stale_lines(as_asked(ablation, store), Counter(row["stale"] for row in rows if row["stale"])))
        say(*_failure_lines(as_asked(ablation, store), failed, max_attempts))
        if not watch or not counts["pending"] + counts["running"]:
            return
        time.sleep(2)
        Console().clear()


def _without(row: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def status_rows(ablation: Ablation, store: RunStore, max_attempts: int) -> list[dict[str, Any]]:
    """Return one flat object per cell."""
    return _survey(ablation, store, max_attempts)[0]


def _survey(
    ablation: Ablation, store: RunStore, max_attempts: int
) -> tuple[list[dict[str, Any]], list[FailedRun]]:
    survey = Survey(store, max_attempts)
    rows = []
    failed: dict[str, FailedRun] = {}
    tasks = dict.fromkeys(cell.spec.data.facts.task for cell in ablation.cells)
    primary = dict.fromkeys(task_description(task).primary for task in tasks)
    for cell in ablation.cells:
        standing = survey.standing(cell.spec)
        rows.append(
            {"run_id": cell.run_id, "variant": cell.row, "seed": cell.seed, **_status(standing, primary)}
        )
        if standing.failure and standing.state != "running":
            given_up = standing.state == "failed"
            name = f"{cell.row} seed {cell.seed}"
            failed[cell.run_id] = FailedRun(cell.run_id, name, standing.failure, given_up)
    return rows, list(failed.values())


def _status(standing: Standing, metrics: Iterable[str]) -> dict[str, Any]:
    facts, failure = standing.facts, standing.failure
    by = None
    if standing.state == "running":
        last = facts.attempts[-1]
        by = f"{last.host}:{last.pid} on {last.device or '?'} since {last.started}"
        if beat := standing.heartbeat:
            by += f", epoch {beat.epoch}, last sign of life {beat.seconds_ago:.0f} s ago"
    return {
        "status": standing.state,
        "stale": " ".join(standing.stale) or None,
        "attempts": facts.tries,
        **{name: facts.record.metrics.get(name) if facts.record else None for name in metrics},
        "wall_seconds": facts.record.wall_seconds if facts.record and facts.done else None,
        "by": by,
        "cause": failure.cause if failure else None,
        "signature": failure.signature if failure else None,
        "error": standing.reason,
    }


def stale_lines(ablation: str, counts: Counter[str]) -> Iterator[str]:
    """Yield what is to be said of stale results, counted by the parts that have changed."""
    for parts, count in counts.items():
        words = (
            f"{count} stale result{'s' * (count > 1)}: the source of {parts.replace(' ', ', ')} has changed"
        )
        yield f"{words}; ema-lab run {ablation} --refresh trains {'them' if count > 1 else 'it'} again"


def _failure_lines(ablation: str, failed: Sequence[FailedRun], max_attempts: int) -> Iterator[str]:
    for group in grouped(failed):
        yield from _group_lines(group)
    given_up = [run for run in failed if run.given_up]
    if again := len(failed) - len(given_up):
        yield f"ema-lab run {ablation} tries {again} of the {len(failed)} failed again"
    if given_up:
        word = "1 run" if len(given_up) == 1 else f"{len(given_up)} runs"
        yield f"left alone after {max_attempts} attempts: {word}"
        yield from (f"  {run.name} ({run.run_id})" for run in given_up[:SHOWN_RUNS])
        if len(given_up) > SHOWN_RUNS:
            yield f"  and {len(given_up) - SHOWN_RUNS} more"
        yield f"hint: ema-lab retry {ablation} makes them pending again"


def _group_lines(group: FailureGroup) -> Iterator[str]:
    failure, first = group.failure, group.runs[0]
    yield f"{len(group.runs)} failed, {failure.cause}  {failure.signature}"
    yield f"  first: {first.name} ({first.run_id}): {failure.message}"
    yield f"  remedy: {failure.remedy}"


def retry(
    ablation: AblationName,
    signature: Annotated[
        str | None,
        typer.Option(
            "--signature", help="Only failures of this kind, as `status` shows it, or its beginning."
        ),
    ] = None,
    only: Only = None,
    seeds: Seeds = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Make failed runs pending again, also those that were left alone; `run` then trains them.

    Their attempts stay on file and no longer count.

    Example: ema-lab retry quickstart --signature out-of-memory:killed
    """
    chosen = selected(ablation, only, seeds)
    runs = existing_store(store)
    failed = _survey(chosen, runs, MAX_ATTEMPTS)[1]
    known = list(dict.fromkeys(run.failure.signature for run in failed))
    meant = [one for one in known if signature is None or f"{one}:".startswith(f"{signature}:")]
    if signature is not None and not meant:
        raise UnknownNameError(unknown_name("failure", signature, known))
    wanted = [run for run in failed if run.failure.signature in meant]
    forgiven = [run for run in wanted if forgive(runs, run.run_id)]
    for run in forgiven:
        put(f"{run.run_id}  {run.name}  {run.failure.signature}")
    word = "1 run is" if len(forgiven) == 1 else f"{len(forgiven)} runs are"
    say(
        f"{chosen.name}: {word} pending again"
        + (f"; ema-lab run {as_asked(ablation, store)}" if forgiven else "")
    )
    if busy := len(wanted) - len(forgiven):
        say(f"{busy} left alone, because a process works on them")
