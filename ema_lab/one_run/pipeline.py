"""Pipeline of one run: model, data, training, cost, trackers. The executor receives `train_run`.

Training is imported by `load_training`: a process that only hands `train_run` to workers needs no Lightning.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ema_lab.attention.kernels.choice import chosen_kernel, fact_of
from ema_lab.collector import without_collector
from ema_lab.errors import CostError
from ema_lab.models.build import build_model
from ema_lab.one_run.log import logging_to
from ema_lab.one_run.measurement import run_cost
from ema_lab.profiling.measure import count_parameters
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import Report, RunJob, RunOutcome
from ema_lab.store.layout import LOG
from ema_lab.tracking.live import start_tracker
from ema_lab.training.machine import Machine

__all__ = ["Machine", "train_run"]


def train_run(
    spec: RunSpec,
    job: RunJob,
    *,
    machine: Machine | None = None,
    track: str | None = None,
    report: Report | None = None,
) -> RunOutcome:
    """Train a run in its folder and return its metrics and costs.

    Args:
        spec: The run.
        job: The run's folder, and its names in an ablation.
        machine: Device, threads, data folder and attention kernel; by default those of `Machine()`.
        track: Name of a live tracker, such as "wandb"; a failing tracker never fails the run.
        report: Receives each epoch's row once the checkpoint is written; may raise `RunStopped`.

    Raises:
        SpecError: If the device does not exist, or the model cannot be built.
        DataError: If the data cannot be loaded.
        DivergedError: If the training loss is not finite.
        RankError: If one of several processes was killed, or hangs.

    Example:
        >>> short = {"data.train_images": 100, "recipe.epochs": 1}
        >>> spec = ema_lab.load_ablation("quickstart", short).runs()[0]
        >>> progress = ema_lab.execute([spec], train=ema_lab.train_run, store=ema_lab.RunStore("runs"))
        >>> progress.done == [spec.run_id]
        True
    """
    machine = machine or Machine()
    with logging_to(job.folder / LOG):
        tracker = start_tracker(track, spec, job)

        def on_epoch(row: Mapping[str, float]) -> None:
            tracker.log_epoch(row)
            job.on_epoch()
            if report is not None:
                report(row)

        try:
            outcome = _trained(spec, job, machine, on_epoch)
            outcome = replace(outcome, cost=_cost_or_reason(spec))
        except BaseException:
            tracker.finish(None)
            raise
        tracker.finish(outcome)
        return outcome


def load_training() -> None:
    """Import all that trains: early in a process that trains, whose source hashes are those of its start."""
    with without_collector():
        import ema_lab.training.run  # noqa: F401


def _trained(spec: RunSpec, job: RunJob, machine: Machine, report: Report) -> RunOutcome:
    if machine.world > 1:
        from ema_lab.one_run.rank_team import train_on_ranks

        return train_on_ranks(spec, job, machine, report)
    load_training()
    from ema_lab.training.run import train

    with chosen_kernel(machine.kernel_for(spec)) as ran:
        return train(spec, job, machine, report, lambda: fact_of(ran))


def _cost_or_reason(spec: RunSpec) -> dict[str, Any]:
    """Return a run's cost; if the model cannot be counted, its parameters and the reason."""
    try:
        return run_cost(spec)
    except CostError as error:
        logging.getLogger(__name__).warning("%s", error)
        return {**count_parameters(build_model(spec, device="meta")), "not_counted": str(error)}
