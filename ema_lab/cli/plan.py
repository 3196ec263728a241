"""The command that says what `run` would do, and how long it would take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.duration import read_duration, write_duration
from ema_lab.cli.output import (
    DEFAULT_STORE,
    AblationName,
    Device,
    Json,
    Store,
    as_asked,
    existing_store,
    print_rows,
    say,
    store_to_come,
)
from ema_lab.cli.power import read_power, show_power
from ema_lab.cli.run import check_runs
from ema_lab.cli.selection import Attempts, Only, Seeds, selected
from ema_lab.cli.status import stale_lines
from ema_lab.cli.threads import NumThreads, visible_gpus, whole_runs
from ema_lab.execution.estimate import (
    Estimates,
    estimates,
    finish_times,
    keep_probe,
    longest_first,
    work_key,
)
from ema_lab.execution.threads import Threads, default_workers, planned_threads
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import MAX_ATTEMPTS, RunStore, State
from ema_lab.store.survey import Standing, Survey

STATES: tuple[State, ...] = ("done", "running", "failed", "pending")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(plan)


def plan(
    ablation: AblationName,
    only: Only = None,
    seeds: Seeds = None,
    check: Annotated[
        bool, typer.Option("--check", help="Build every distinct model (without weights) too.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure a few steps of every distinct pending row first.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Say what ends within a time: 45m, 2h.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="For the estimated time.")] = None,
    threads: NumThreads = None,
    power: Annotated[
        bool, typer.Option("--power", help="Say which differences the seeds can show, in place of the cells.")
    ] = False,
    std: Annotated[
        float | None,
        typer.Option("--std", help="For --power: of paired differences; by default from finished runs."),
    ] = None,
    difference: Annotated[
        list[float] | None, typer.Option("--difference", help="For --power: a difference to be seen.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="For --power: the primary one by default.")
    ] = None,
    device: Device = "auto",
    max_attempts: Attempts = MAX_ATTEMPTS,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Show what `run` would do: cells done, failed, pending and skipped, and the hours left.

    Times come from finished runs of the same row, else from what --probe measured on this device.

    Examples: ema-lab plan quickstart --check; ema-lab plan quickstart --probe --budget 10m;
    ema-lab plan quickstart --power --std 0.4
    """
    chosen = selected(ablation, only, seeds)
    asked = read_power(power, metric, std, difference)
    if asked is not None:
        show_power(chosen, existing_store(store), asked, as_json=as_json)
        return
    limit = read_duration("--budget", budget)
    runs = store_to_come(store)
    if check or probe:
        check_runs(chosen)
    survey = Survey(runs, max_attempts)
    standings = {spec.run_id: survey.standing(spec) for spec in chosen.runs()}
    gpus = visible_gpus() if device != "cpu" else ()
    each = planned_threads(runs, chosen.name, lambda: (one.run_id for one in whole_runs(chosen)), threads)
    count = workers or len(gpus) or default_workers(each.number)
    name = _probe(chosen, standings, runs.root, device, each) if probe else ""
    view = Plan(chosen, standings, estimates(chosen.runs(), runs, name), count, limit)
    if as_json:
        print_rows([*view.cells(), *view.skipped()], as_json=True)
        return
    print_rows(view.rows(), as_json=False)
    for reason, number in Counter(one.reason for one in chosen.skipped).items():
        say(f"{number} skipped: {reason}")
    stale = Counter(" ".join(one.stale) for one in standings.values() if one.stale)
    say(*stale_lines(as_asked(ablation, store), stale))
    say(*(line for one in standings.values() for line in one.facts.damage))
    say(view.summary())
    if not gpus or threads is not None:  # a GPU leaves them to torch
        say(f"{chosen.name}: {each}")


@dataclass(frozen=True)
class Plan:
    """The cells of an ablation, where they stand, and when the pending ones would end.

    `limit`: seconds within which cells are to end; `workers`: runs at a time.
    """

    ablation: Ablation
    standings: Mapping[str, Standing]
    known: Estimates
    workers: int
    limit: float | None

    @cached_property
    def pending(self) -> list[RunSpec]:
        """The pending runs: with a budget seed by seed, so that rows stay comparable; else longest first."""
        specs = [s for s in self.ablation.runs() if self.standings[s.run_id].state == "pending"]
        if self.limit is not None:
            seeds = list(dict.fromkeys(cell.seed for cell in self.ablation.cells))
            return sorted(specs, key=lambda spec: seeds.index(spec.seed))
        return longest_first(specs, self.known)

    @cached_property
    def ends(self) -> dict[str, float]:
        """Seconds from now until each pending run ends; empty where a time is not known."""
        seconds = [self.known.seconds(spec) for spec in self.pending]
        if not seconds or any(value is None for value in seconds):
            return {}
        times = finish_times([value or 0.0 for value in seconds], self.workers)
        return dict(zip((spec.run_id for spec in self.pending), times, strict=True))

    def fits(self, run_id: str) -> bool:
        """Whether a pending run ends within the limit."""
        return self.limit is not None and run_id in self.ends and self.ends[run_id] <= self.limit

    def cells(self) -> list[dict[str, Any]]:
        """Return one flat object per cell."""
        return [
            {"run_id": cell.run_id, "variant": cell.row, "seed": cell.seed}
            | {"status": self.standings[cell.run_id].state}
            | {"stale": " ".join(self.standings[cell.run_id].stale) or None}
            | {"seconds": self.known.seconds(cell.spec)}
            | ({"fits": self.fits(cell.run_id)} if self.limit is not None else {})
            for cell in self.ablation.cells
        ]

    def skipped(self) -> list[dict[str, Any]]:
        """Return one flat object per cell that is left out."""
        return [
            {"run_id": None, "variant": one.cell.row, "seed": one.cell.seed, "status": "skipped"}
            | {"stale": None, "seconds": None, "reason": one.reason}
            for one in self.ablation.skipped
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return the counts of each table row, and the time of its pending runs one after the other."""
        skipped = Counter(one.cell.row for one in self.ablation.skipped)
        cells = {**self.ablation.rows(), **{row: [] for row in skipped if row not in self.ablation.rows()}}
        found = []
        for row, members in cells.items():
            standings = [self.standings[cell.run_id] for cell in members]
            counts = Counter(standing.state for standing in standings)
            line: dict[str, Any] = {"variant": row, "cells": len(members), "done": counts["done"]}
            line["stale"] = sum(bool(standing.stale) for standing in standings)
            line |= {str(state): counts[state] for state in STATES[1:]} | {"skipped": skipped[row]}
            if self.known.finished or self.known.probed:
                line["time_left"] = self._time_left([c.spec for c in members])
            if self.limit is not None:
                line["fit"] = sum(self.fits(cell.run_id) for cell in members)
            found.append(line)
        return found

    def _time_left(self, specs: Sequence[RunSpec]) -> str | None:
        pending = [spec for spec in specs if self.standings[spec.run_id].state == "pending"]
        seconds = [self.known.seconds(spec) for spec in pending]
        if any(value is None for value in seconds):
            return "?"
        return write_duration(sum(value or 0.0 for value in seconds)) if pending else None

    def summary(self) -> str:
        """Return the counts and the time in one line."""
        counts = Counter(standing.state for standing in self.standings.values())
        parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        name, runs = self.ablation.name, len(self.standings)
        words = f"{name}: {len(self.ablation.cells)} cells, {runs} distinct runs: {', '.join(parts)}"
        if not self.pending:
            return words
        if not self.ends:
            return f"{words}; no time is known for some rows: --probe measures them"
        workers = min(self.workers, len(self.pending))
        left = write_duration(max(self.ends.values()))
        words += f"; about {left} left with {workers} worker{'s' * (workers > 1)}"
        if self.limit is not None:
            fit = sum(self.fits(spec.run_id) for spec in self.pending)
            words += f"; {fit} of {len(self.pending)} end within {write_duration(self.limit)}, seed by seed"
        return words


def _probe(
    ablation: Ablation, standings: Mapping[str, Standing], root: Path, device: str, each: Threads
) -> str:
    """Measure each kind of pending run of which nothing is known on this device; return its name."""
    from ema_lab.training.environment import device_name
    from ema_lab.training.probe import probe
    from ema_lab.training.run import Machine
    from ema_lab.training.trainer import choose_device

    found = choose_device(device)
    threads = each.number if found.type == "cpu" else None
    name = f"{device_name(found)}, {threads or 'any'} threads"
    known = estimates(ablation.runs(), RunStore(root), name)
    wanted = {
        work_key(spec): spec
        for spec in ablation.runs()
        if standings[spec.run_id].state == "pending" and known.seconds(spec) is None
    }
    for number, spec in enumerate(wanted.values(), start=1):
        seconds = probe(spec, Machine(device=device, num_threads=threads))
        keep_probe(root, name, spec, seconds)
        words = f"{spec.model.attention.name} in {spec.model.backbone}: {write_duration(seconds)} a run"
        say(f"[{number}/{len(wanted)}] {words}")
    return name
