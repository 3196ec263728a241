"""Commands about the state of runs: status, retry."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from ema_lab.cli.groups import CellOptions, OutputOptions, expanded
from ema_lab.cli.options import AblationName, Attempts, Store
from ema_lab.cli.output import put, say
from ema_lab.cli.store_argument import command_arguments, settings_hint
from ema_lab.store.failure import FailedRun, FailureGroup, grouped
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.wording import are, number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.selection import selected
from ema_lab.workflow.text import stale_lines, untrained_line
from ema_lab.workflow.train.status import retry as retry_failed
from ema_lab.workflow.train.status import survey

SHOWN_RUNS = 10
REFRESH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(expanded(status))
    app.command()(expanded(retry))


def status(
    ablation: AblationName,
    *,
    cells: CellOptions,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until nothing is pending.")] = False,
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    output: OutputOptions,
) -> None:
    """Show every cell: state, attempts, result.

    Also the process that works on each cell, and the failures by kind.

    Example: ema-lab status quickstart --watch
    """
    chosen = selected(ablation, **cells.choice())
    runs, arguments = existing_store(store), command_arguments(ablation, store, cells.changes)
    while True:
        state = survey(chosen, runs, max_attempts)
        output.print(state.shown_rows() if output.is_text else state.rows())
        counts = ", ".join(f"{number} {name}" for name, number in sorted(state.shown_counts.items()))
        say(f"{chosen.name}: {counts}")
        say(*(untrained_line(row, names) for row, names in state.untrained.items()))
        say(*settings_hint("status", ablation, chosen, runs, store, cells.changes))
        say(*stale_lines(arguments, state.stale), *_failure_lines(arguments, state.failed, max_attempts))
        if not watch or state.is_over:
            return
        time.sleep(REFRESH_SECONDS)
        from rich.console import Console

        Console().clear()


def _failure_lines(ablation: str, failed: Sequence[FailedRun], max_attempts: int) -> Iterator[str]:
    for group in grouped(failed):
        yield from _group_lines(group)
    given_up = [run for run in failed if run.given_up]
    if again := len(failed) - len(given_up):
        yield f"ema-lab run {ablation} tries {again} of the {len(failed)} failed again"
    if given_up:
        runs = number_of(len(given_up), "run")
        yield f"left alone after {number_of(max_attempts, 'attempt')}: {runs}"
        yield from (f"  {run.name} ({run.run_id})" for run in given_up[:SHOWN_RUNS])
        if len(given_up) > SHOWN_RUNS:
            yield f"  and {len(given_up) - SHOWN_RUNS} more"
        yield f"hint: ema-lab retry {ablation} makes them pending again"


def _group_lines(group: FailureGroup) -> Iterator[str]:
    failure, first = group.failure, group.runs[0]
    yield f"{len(group.runs)} failed, {failure.cause}  {failure.signature}"
    yield f"  first: {first.name} ({first.run_id}): {failure.sentence}"
    yield f"  remedy: {failure.remedy}"


def retry(
    ablation: AblationName,
    signature: Annotated[
        str | None,
        typer.Option(
            "--signature",
            help="Only failures with this signature, as `status` prints it, or with its beginning.",
        ),
    ] = None,
    *,
    cells: CellOptions,
    store: Store = DEFAULT_STORE,
) -> None:
    """Make failed runs pending again.

    Also those without attempts left; `run` then trains them. Their attempts stay on file and no longer count.

    Example: ema-lab retry quickstart --signature out-of-memory:killed
    """
    retried = retry_failed(selected(ablation, **cells.choice()), existing_store(store), signature)
    for run in retried.runs:
        put(f"{run.run_id}  {run.name}  {run.failure.signature}")
    number = len(retried.runs)
    hint = f"; ema-lab run {command_arguments(ablation, store, cells.changes)}" if retried.runs else ""
    say(f"{retried.ablation.name}: {number_of(number, 'run')} {are(number)} pending again{hint}")
    if retried.busy:
        say(f"{retried.busy} left alone, because a process works on them")
