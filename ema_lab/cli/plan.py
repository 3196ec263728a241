"""Command `plan`: what `run` would do, how long it would take, and what its seeds could detect."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.display import Display
from ema_lab.cli.groups import CellOptions, expanded
from ema_lab.cli.options import AblationName, Attempts, Data, Device, Json, NumThreads, Store, refuse_without
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.store_argument import command_arguments, settings_hint, store_to_come
from ema_lab.execution.threads import MOST_PROCESSES
from ema_lab.specs.run import RunSpec
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.power import POWER
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.outcome import stale_counts
from ema_lab.workflow.selection import selected
from ema_lab.workflow.text import read_duration, stale_lines, write_duration
from ema_lab.workflow.train.plan import STATES, Forecast, Plan
from ema_lab.workflow.train.plan import plan as make_plan
from ema_lab.workflow.train.power import Power, PowerTable
from ema_lab.workflow.train.power import power as power_of

POWER_FIELDS = ("seeds", "detectable", "detectable_holm", "difference", "seeds_holm")


@dataclass(frozen=True)
class ForecastOptions:
    """Checks and measurements before the forecast, and what it assumes."""

    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Build every distinct model (without weights), and check the data that is here, first.",
        ),
    ] = False
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure a few steps of every distinct pending row first.")
    ] = False
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Print which runs end within a time: 45m, 2h."),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=MOST_PROCESSES, help="Processes that the estimated time assumes."
        ),
    ] = None
    threads: NumThreads = None
    data: Data = DEFAULT_DATA

    def request(self) -> Forecast:
        """Return the request: checks, measurements and the time limit.

        Raises:
            SpecError: If an option has no effect, or the time cannot be read.
        """
        if not self.check and self.data != Path(os.environ.get("EMA_LAB_DATA") or DEFAULT_DATA):
            refuse_without("--check", {"--data": True})
        return Forecast(self.check, self.probe, read_duration("--budget", self.budget))


@dataclass(frozen=True)
class PowerOptions:
    """Power analysis in place of a plan."""

    power: Annotated[
        bool,
        typer.Option("--power", help="Print which differences the seeds can detect instead."),
    ] = False
    std: Annotated[
        float | None,
        typer.Option(
            "--std", help="With --power: deviation of paired differences; by default of finished runs."
        ),
    ] = None
    difference: Annotated[
        list[float] | None, typer.Option("--difference", help="With --power: a difference to detect.")
    ] = None
    metric: Annotated[
        str | None, typer.Option("--metric", help="With --power: the metric; by default the primary one.")
    ] = None

    def request(self) -> Power | None:
        """Return the request; None without --power.

        Raises:
            SpecError: If an option has no effect, or a number is not above zero.
        """
        if self.power:
            return Power(self.metric, self.std, tuple(self.difference or ()))
        options = {"--metric": self.metric, "--std": self.std, "--difference": self.difference or None}
        refuse_without("--power", {name: value is not None for name, value in options.items()})
        return None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(plan))


def plan(
    ablation: AblationName,
    cells: CellOptions,
    forecast: ForecastOptions,
    power: PowerOptions,
    device: Device = "auto",
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Print what `run` would do, and how long it takes.

    Cells done, failed, pending and skipped, and the time left. Times come from finished runs of the same row,
    else from what --probe measured on this device.

    Examples: ema-lab plan quickstart --check; ema-lab plan quickstart --probe --budget 10m;
    ema-lab plan quickstart --power --std 0.4
    """
    if (request := power.request()) is not None:
        chosen = selected(ablation, **cells.choice())
        _print_power(power_of(chosen, existing_store(store), request), as_json=as_json)
        return
    view = make_plan(
        ablation,
        **cells.choice(),
        forecast=forecast.request(),
        watch=Display(),
        workers=forecast.workers,
        threads=forecast.threads,
        data=forecast.data,
        device=device,
        max_attempts=max_attempts,
        store=(runs := store_to_come(store)).root,
    )
    if as_json:
        print_rows([*view.cells(), *view.skipped()], as_json=True)
    else:
        _print_plan(view, command_arguments(ablation, store, cells.changes))
        say(*settings_hint("plan", ablation, view.ablation, runs, store, cells.changes))


def _print_plan(view: Plan, ablation: str) -> None:
    print_rows(_rows(view), as_json=False)
    for reason, number in Counter(each.reason for each in view.ablation.skipped).items():
        say(f"{number} skipped: {reason}")
    say(*stale_lines(ablation, stale_counts(view.statuses)))
    say(*(line for status in view.statuses.values() for line in status.facts.damage))
    say(_summary(view))
    if view.threads is not None:
        say(f"{view.ablation.name}: {view.threads}")
    for need in view.disk:
        say(f"{view.ablation.name}: {need.sentence}{' (too small)' if need.is_short else ''}")


def _rows(plan: Plan) -> list[dict[str, Any]]:
    """Return the counts of each table row, and the time of its pending runs one after the other."""
    ablation = plan.ablation
    skipped = Counter(left.cell.row for left in ablation.skipped)
    cells = {**ablation.rows(), **{row: [] for row in skipped if row not in ablation.rows()}}
    rows = []
    for row, members in cells.items():
        statuses = [plan.statuses[cell.run_id] for cell in members]
        counts = Counter(status.state for status in statuses)
        line: dict[str, Any] = {"variant": row, "cells": len(members), "done": counts["done"]}
        line["stale"] = sum(bool(status.stale) for status in statuses)
        line |= {str(state): counts[state] for state in STATES[1:]} | {"skipped": skipped[row]}
        if plan.known.finished or plan.known.probed:
            line["time_left"] = _time_left(plan, [cell.spec for cell in members])
        if plan.limit is not None:
            line["fit"] = sum(plan.fits(cell.run_id) for cell in members)
        rows.append(line)
    return rows


def _time_left(plan: Plan, specs: Sequence[RunSpec]) -> str | None:
    pending = [spec for spec in specs if plan.statuses[spec.run_id].state == "pending"]
    seconds = [plan.known.seconds(spec) for spec in pending]
    if any(value is None for value in seconds):
        return "?"
    return write_duration(sum(value or 0.0 for value in seconds)) if pending else None


def _summary(plan: Plan) -> str:
    """Return the counts and the time left in one line."""
    counts = Counter(status.state for status in plan.statuses.values())
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    cells = number_of(len(plan.ablation.cells), "cell")
    runs = number_of(len(plan.statuses), "distinct run")
    summary = f"{plan.ablation.name}: {cells}, {runs}: {', '.join(parts)}"
    if not plan.pending:
        return summary
    if not plan.ends:
        return f"{summary}; no time is known for some rows: --probe measures them"
    workers = min(plan.workers, len(plan.pending))
    left = write_duration(max(plan.ends.values()))
    summary += f"; about {left} left with {number_of(workers, 'worker')}"
    if plan.limit is not None:
        fit = sum(plan.fits(spec.run_id) for spec in plan.pending)
        summary += f"; {fit} of {len(plan.pending)} end within {write_duration(plan.limit)}, seed by seed"
    return summary


def _print_power(table: PowerTable, *, as_json: bool) -> None:
    if as_json:
        rows = [{**dict.fromkeys(POWER_FIELDS), **row} for row in (*table.by_seeds, *table.by_difference)]
        print_rows(rows, as_json=True)
    else:
        print_rows(table.by_seeds, as_json=False)
        put()
        print_rows(table.by_difference, as_json=False)
    unit, compared = table.metric.unit_of_differences, table.compared
    say(
        f"{table.ablation.name}: {table.metric.label}, {unit}; "
        f"two-sided paired t test at 5 %, power {POWER:.0%}; "
        f"holm: at 5 % / {max(1, compared)}, the first step over {number_of(compared, 'comparison')}",
        f"standard deviation of paired differences: {table.family.std:.3g} ({table.origin})",
        _headline(table.ablation, unit, table),
    )


def _headline(ablation: Ablation, unit: str, table: PowerTable) -> str:
    seeds, family = len({cell.seed for cell in ablation.cells}), table.family
    detectable = "nothing: a test needs two"
    if seeds > 1:
        detectable = f"{family.detectable(seeds, family.first):.3g} {unit}"
        if family.first < SIGNIFICANCE:
            single = family.detectable(seeds, SIGNIFICANCE)
            detectable += f" in any row ({single:.3g} if there were one comparison)"
    parts = [
        f"for {row['difference']:.3g} you need {row['seeds_holm'] or 'more than 10,000'} seeds"
        for row in table.by_difference
    ]
    return "; ".join([f"with {number_of(seeds, 'seed')} you can see {detectable}", *parts])
