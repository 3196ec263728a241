"""Training of one run, from its spec to its metrics."""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from ema_lab.data.module import RunData
from ema_lab.data.share import ALONE
from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import NotRegularFileError, quarantine_file
from ema_lab.models.build import build_model
from ema_lab.models.start import AVERAGE, start_summary, start_weights
from ema_lab.models.synchronised import synchronise
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.layout import BEST, LAST, RUN_ID_FIELD
from ema_lab.store.predictions import write_predictions
from ema_lab.store.record import NODES, PIECES, WORLD_SIZE
from ema_lab.store.start import write_start
from ema_lab.tasks.task import load_data, load_task
from ema_lab.training.callbacks import EpochEnd, Follower, Row
from ema_lab.training.compiled import compiler_cache
from ema_lab.training.environment import environment, with_earlier
from ema_lab.training.evaluation import evaluate
from ema_lab.training.heartbeat import HeartbeatWriter
from ema_lab.training.machine import Machine, choose_device
from ema_lab.training.module import TrainingModule
from ema_lab.training.optimisation import untrained_parameters
from ema_lab.training.profile import RunProfiler
from ema_lab.training.ranks import Rank, agreed
from ema_lab.training.trainer import build_trainer, unfilled_memory
from ema_lab.training.within_epoch import WithinEpoch


@unfilled_memory()
def train(
    spec: RunSpec,
    job: RunJob,
    machine: Machine,
    report: Callable[[Row], None] = lambda row: None,
    kernels: Callable[[], Mapping[str, str]] = dict,
    rank: Rank | None = None,
) -> RunOutcome:
    """Train a run to its end; resume an interrupted run from its checkpoint.

    The curve, the checkpoints and the predictions go to the run's folder, each with the run's id. The test
    split is evaluated once, with the weights that the protocol chooses.

    Args:
        spec: The run.
        job: Folder and attempt of the run.
        machine: Device, threads and data folder.
        report: Receives each epoch's row of the curve.
        kernels: Returns the facts of the environment about kernels that have run.
        rank: This process among several that train the run. Those after the first write nothing, and their
            outcome is empty.

    Raises:
        SpecError: If the device does not exist, or the model cannot be built.
        DataError: If the data cannot be loaded.
        DivergedError: If the training loss is not finite.
        CompileError: If the recipe compiles the model, and that fails.
        RunPaused: If the time to stop has come; the checkpoint is written.
    """
    if machine.num_threads is not None:
        torch.set_num_threads(machine.num_threads)
    device = choose_device(machine.device)
    leads = rank is None or rank.leads
    profiler = RunProfiler(job.folder, device) if machine.profile and leads else PassThroughProfiler()
    task = load_task(spec.data)
    data = load_data(spec, machine.data_root, machine.loader_workers or 0)
    data.device = device
    if machine.loader_workers is None and device.type == "cuda":  # on a CPU, training is no faster by them
        data.use_cores(machine.cores - 1)
    data.share = rank.share if rank else ALONE
    model = build_model(spec)
    started = _start(model, spec, job if leads else None, machine)
    task.prepare(model, data)
    if rank is not None and spec.recipe.sync_batch_norm:
        synchronise(model)
    module = TrainingModule(spec, model, task, len(data.train_dataloader()), data.share)
    module.profiler = profiler
    facts = partial(_facts, device, module, machine.nodes, kernels)
    epoch_end = (EpochEnd if leads else Follower)(job.folder, data, report, facts)
    try:
        _fit(module, data, epoch_end, job, machine, rank)
    finally:
        if isinstance(profiler, RunProfiler):
            profiler.close()
    if not leads:
        return RunOutcome({})
    compiled = {"compile": epoch_end.compiled} if epoch_end.compiled else {}
    # Before the evaluation, which sets torch's flags again.
    ran_on = with_earlier(epoch_end.facts(), epoch_end.earlier) | started | compiled
    ran_on |= _untrained(model, spec)
    chosen_epoch = spec.recipe.epochs if epoch_end.best is None else epoch_end.best[1]
    with profiler.profile("final_evaluation"):
        predictions = evaluate(_chosen(module, epoch_end, job), task, data, "test", device)
    arrays = {name: rows.numpy() for name, rows in predictions.items()}
    predictions_sha256 = write_predictions(job.folder, arrays, "test", spec.run_id)
    if isinstance(profiler, RunProfiler):
        profiler.finish(spec.run_id, module.step.compiled.seconds if module.step.compiled else 0.0)
    return RunOutcome(
        metrics=task.metrics(predictions),
        chosen_epoch=chosen_epoch,
        wall_seconds=round(epoch_end.wall_seconds(), 3),
        throughput=len(data.train_indices) * spec.recipe.epochs / epoch_end.train_seconds,
        environment=ran_on,
        data_sha256=data.splits.sha256,
        predictions_sha256=predictions_sha256,
    )


def _facts(
    device: torch.device, module: TrainingModule, nodes: int, kernels: Callable[[], Mapping[str, str]]
) -> dict[str, Any]:
    """Return the environment of a run so far, without numbers of processes, machines or pieces that are 1."""
    counts = {WORLD_SIZE: module.share.world, NODES: nodes, PIECES: module.pieces.count}
    more = {name: count for name, count in counts.items() if count > 1}
    return environment(device, module.spec.recipe) | more | dict(kernels())


def _fit(
    module: TrainingModule,
    data: RunData,
    epoch_end: EpochEnd,
    job: RunJob,
    machine: Machine,
    rank: Rank | None,
) -> None:
    """Train all epochs, or what is left after the checkpoint.

    Raises:
        KeyboardInterrupt: If the user stops the run, which Lightning turns into an exit.
    """
    recipe, device = module.spec.recipe, data.device
    callbacks: list[Callback] = [epoch_end]
    checkpoint = None
    if rank is None or rank.leads:
        within = WithinEpoch(epoch_end, machine.checkpoint_minutes, machine.stop_at)
        callbacks = [HeartbeatWriter(job.folder), epoch_end, within]
        checkpoint = checkpoint_to_resume(job.folder, module.spec.run_id)
    if rank is not None:
        checkpoint = agreed(checkpoint)
    trainer = build_trainer(recipe, device, job.folder, callbacks, module.profiler, rank)
    try:
        with compiler_cache(recipe, job.cache):
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=checkpoint,
                weights_only=True,
            )
    except SystemExit as stop:
        if trainer.interrupted or isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _chosen(module: TrainingModule, epoch_end: EpochEnd, job: RunJob) -> nn.Module:
    """Return the model with the weights that the protocol chooses."""
    model = module.evaluated
    if epoch_end.best is not None:
        load_weights(model, job.folder / BEST, module.spec.run_id)
    return model


def _untrained(model: nn.Module, spec: RunSpec) -> dict[str, Any]:
    """Return the names of the parameters that the recipe leaves in no optimizer group, if there are any."""
    names = untrained_parameters(model, spec.recipe.decays)
    return {"untrained": names} if names else {}


def _start(model: nn.Module, spec: RunSpec, job: RunJob | None, machine: Machine) -> dict[str, Any]:
    """Copy start weights into a model, write what became of each tensor to a job, and return a summary."""
    start = spec.model.start
    if start is None:
        return {}
    table = start_weights(model, start, [machine.data_root])
    if job is not None:
        write_start(job.folder, table, spec.run_id)
    return {"start": start_summary(table, start)}


def checkpoint_to_resume(folder: Path, run_id: str) -> Path | None:
    """Return the checkpoint from which a run goes on; None if the run must start from scratch.

    An unreadable checkpoint, or another run's, is renamed with a warning. If the checkpoint has a best
    epoch, the run's best weights must exist too. A slimmed checkpoint cannot be resumed.
    """
    last, best = folder / LAST, folder / BEST
    checkpoint = _own_checkpoint(last, run_id)
    if checkpoint is None or "optimizer_states" not in checkpoint:
        return None
    states = checkpoint.get("callbacks", {}).values()
    if any(state.get("best") is not None for state in states) and _own_checkpoint(best, run_id) is None:
        warnings.warn(f"{best} is not there: the run starts again", stacklevel=2)
        return None
    return last


def _own_checkpoint(path: Path, run_id: str) -> dict[str, Any] | None:
    """Load a checkpoint without its tensors' values; rename an unusable file and return None."""
    if not os.path.lexists(path):
        return None
    try:
        return _load_own(path, run_id, "meta")
    except StoreError as error:
        warnings.warn(
            f"{error}; it was renamed {quarantine_file(path).name}: the run starts again", stacklevel=2
        )
        return None


def _load_own(path: Path, run_id: str, device: str) -> dict[str, Any]:
    """Load a checkpoint and check its run id, which older checkpoints lack.

    Raises:
        DamagedFileError: If the file cannot be read, or is another run's.
    """
    try:
        if not path.is_file():
            raise NotRegularFileError(0, "it is no regular file")
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        owner = checkpoint.get(RUN_ID_FIELD, run_id)
        checkpoint["state_dict"]
    except Exception as error:  # torch raises what its readers raise
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise DamagedFileError(f"{path} cannot be read ({reason})") from None
    if owner != run_id:
        raise DamagedFileError(f"{path} is the checkpoint of {owner!r}")
    return checkpoint


def load_weights(model: nn.Module, path: Path, run_id: str) -> None:
    """Load a run's best weights, or the evaluated weights of its last checkpoint.

    Raises:
        DamagedFileError: If the file cannot be read, is another run's, or does not fit the model.
    """
    state = _load_own(path, run_id, "cpu")["state_dict"]
    prefix = AVERAGE if any(key.startswith(AVERAGE) for key in state) else "model."
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(inner if path.name == LAST else state)
    except RuntimeError as error:
        raise DamagedFileError(f"{path} does not fit the model: {str(error).splitlines()[0]}") from None
