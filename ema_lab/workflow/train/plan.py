"""Forecast of what training an ablation would do: cells by state, and when the pending ones would end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

from ema_lab.ablation.ablation import Ablation
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
from ema_lab.store.disk import DiskNeed, by_disk
from ema_lab.store.store import State
from ema_lab.store.survey import RunStatus, Survey
from ema_lab.wording import number_of
from ema_lab.workflow.data_files import check_present, copies_of, copies_remarks
from ema_lab.workflow.events import RowProbed, recipe_remarks
from ema_lab.workflow.execution import Execution, ExecutionOptions, Watch, ignore
from ema_lab.workflow.selection import Changes, Conditions, SeedChoice, selected
from ema_lab.workflow.train.grid import check_runs, unhashed_remarks
from ema_lab.workflow.train.threads import visible_gpus, whole_runs

STATES: tuple[State, ...] = ("done", "running", "failed", "pending")


@dataclass(frozen=True)
class Plan:
    """Cells of an ablation with the status of their runs, and when the pending ones would end.

    Attributes:
        ablation: Its cells.
        statuses: Status of each run, by run id.
        known: Seconds of a run, from finished runs and probes.
        workers: Runs trained at the same time.
        threads: Number of torch threads per run; None on a GPU, where torch decides.
        limit: Seconds within which runs are to end; None sets no limit.
        disk: Disk space for what the pending runs write, disk by disk, if the models were built.
    """

    ablation: Ablation
    statuses: Mapping[str, RunStatus]
    known: Estimates
    workers: int
    threads: Threads | None = None
    limit: float | None = None
    disk: tuple[DiskNeed, ...] = ()

    @cached_property
    def pending(self) -> list[RunSpec]:
        """Pending runs: with a limit seed by seed, so that rows stay comparable; else longest first."""
        specs = [s for s in self.ablation.runs() if self.statuses[s.run_id].state == "pending"]
        if self.limit is not None:
            seeds = list(dict.fromkeys(cell.seed for cell in self.ablation.cells))
            return sorted(specs, key=lambda spec: seeds.index(spec.seed))
        return longest_first(specs, self.known)

    @cached_property
    def ends(self) -> dict[str, float]:
        """Seconds from now until each pending run ends; empty if the time of any is unknown."""
        seconds = [self.known.seconds(spec) for spec in self.pending]
        if not seconds or any(value is None for value in seconds):
            return {}
        times = finish_times([value or 0.0 for value in seconds], self.workers)
        return dict(zip((spec.run_id for spec in self.pending), times, strict=True))

    def fits(self, run_id: str) -> bool:
        """Return whether a pending run ends within the limit."""
        return self.limit is not None and run_id in self.ends and self.ends[run_id] <= self.limit

    def cells(self) -> list[dict[str, Any]]:
        """Return one flat object per cell, as `ema-lab plan --json` prints them."""
        return [
            {"run_id": cell.run_id, "variant": cell.row, "seed": cell.seed}
            | {"status": self.statuses[cell.run_id].state}
            | {"stale": " ".join(self.statuses[cell.run_id].stale) or None}
            | {"seconds": self.known.seconds(cell.spec)}
            | ({"fits": self.fits(cell.run_id)} if self.limit is not None else {})
            for cell in self.ablation.cells
        ]

    def skipped(self) -> list[dict[str, Any]]:
        """Return one flat object per cell that the file skips."""
        return [
            {"run_id": None, "variant": left.cell.row, "seed": left.cell.seed, "status": "skipped"}
            | {"stale": None, "seconds": None, "reason": left.reason}
            for left in self.ablation.skipped
        ]


@dataclass(frozen=True)
class Forecast:
    """Request for a plan.

    Attributes:
        check: Build every model, and check the data of pending runs that is on this machine.
        probe: Measure pending rows of unknown time.
        limit: Seconds within which runs are to end.
    """

    check: bool = False
    probe: bool = False
    limit: float | None = None


def plan(
    ablation: str | Path,
    *,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    changes: Changes | None = None,
    forecast: Forecast | None = None,
    watch: Watch = ignore,
    **execution: Unpack[ExecutionOptions],
) -> Plan:
    """Return a forecast of training an ablation, without training.

    Example:
        >>> plan = ema_lab.plan("quickstart", workers=2)
        >>> len(plan.pending), len(plan.ends)  # no time is known before the first run
        (21, 0)

    Args:
        ablation: A path, or the name of a definition.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        seeds: The first so many seeds of the file, or a list of seeds.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.
        forecast: What to check and measure first, and the time within which runs are to end.
        watch: Observer of the events of `ema_lab.workflow.events`.
        **execution: Fields of `ema_lab.workflow.execution.Execution`: workers, device, store, ...

    Raises:
        EmaLabError: If there is no such ablation or cell, or a model or the data does not fit.
    """
    chosen, how = selected(ablation, only, seeds, changes), Execution(**execution)
    forecast = forecast or Forecast()
    for remark in recipe_remarks(chosen):
        watch(remark)
    if forecast.check or forecast.probe:
        check_runs(chosen, watch)
    else:
        for remark in unhashed_remarks(chosen):
            watch(remark)
    store = how.run_store
    survey = Survey(store, how.max_attempts)
    runs = chosen.runs()
    statuses = {spec.run_id: survey.status(spec) for spec in runs}
    records = {run_id: status.facts.record for run_id, status in statuses.items()}
    gpus = visible_gpus() if how.device != "cpu" else ()
    threads = planned_threads(store, chosen.name, partial(_run_ids, chosen), how.threads)
    workers = how.workers or len(gpus) or default_workers(threads.number)
    bare = Plan(chosen, statuses, estimates(runs, store, records=records), workers, threads, forecast.limit)
    disk = _disk(bare, how, forecast, watch) if forecast.check or forecast.probe else ()
    name = _probe(bare, how, watch) if forecast.probe else ""
    is_left_to_torch = bool(gpus) and how.threads is None
    known = estimates(runs, store, name, records) if name else bare.known
    return replace(bare, known=known, threads=None if is_left_to_torch else threads, disk=disk)


def _disk(plan: Plan, how: Execution, forecast: Forecast, watch: Watch) -> tuple[DiskNeed, ...]:
    from ema_lab.training.disk import copies_needs, disk_need

    if not plan.pending:
        return ()
    root = Path(how.data)
    copies = copies_of(check_present(plan.pending, root, watch), root) if forecast.check else []
    for remark in copies_remarks(copies):
        watch(remark)
    checkpoints = disk_need(plan.pending, how.run_store.root, plan.workers)
    return tuple(by_disk([checkpoints, *copies_needs(copies)]))


def _run_ids(ablation: Ablation) -> list[str]:
    return [spec.run_id for spec in whole_runs(ablation)]


def _probe(plan: Plan, how: Execution, watch: Watch) -> str:
    """Measure each kind of pending run whose time on this device is unknown; return the device's name."""
    from ema_lab.training.environment import device_name
    from ema_lab.training.machine import Machine, choose_device
    from ema_lab.training.probe import probe

    assert plan.threads is not None
    device = choose_device(how.device)
    threads = plan.threads.number if device.type == "cpu" else None
    name = f"{device_name(device)}, {number_of(threads, 'thread') if threads else 'any threads'}"
    store, runs = how.run_store, plan.ablation.runs()
    known = estimates(runs, store, name)
    pending = [spec for spec in runs if plan.statuses[spec.run_id].state == "pending"]
    unknown = {work_key(spec): spec for spec in pending if known.seconds(spec) is None}
    for number, spec in enumerate(unknown.values(), start=1):
        seconds = probe(spec, Machine(device=how.device, num_threads=threads))
        keep_probe(store.root, name, spec, seconds)
        watch(RowProbed(spec, seconds, number, len(unknown)))
    return name
