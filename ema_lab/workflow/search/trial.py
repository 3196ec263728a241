"""Training of one trial of a sweep whose values a W&B server, or a user, has chosen."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from ema_lab.errors import StoreError
from ema_lab.search.external_trial import ExternalTrial, read_trial, run_external_trial
from ema_lab.specs.run import RunSpec
from ema_lab.tracking.live import NoTracker
from ema_lab.tracking.wandb_trial import SWEEP_ID, start_trial_tracker
from ema_lab.workflow.data_files import check_files
from ema_lab.workflow.execution import Execution
from ema_lab.workflow.train.threads import base_ablation, settled_threads


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial. "stopped": W&B has interrupted it; its run is pending and keeps its checkpoint.

    `values`: the mean over its seeds of each validation metric. `message`: why it failed.
    """

    base: str
    run_ids: tuple[str, ...]
    state: Literal["done", "failed", "stopped"]
    values: Mapping[str, float] = field(default_factory=dict)
    message: str = ""

    def row(self) -> dict[str, Any]:
        """Return the outcome as one flat object."""
        head = {"base": self.base, "run_ids": list(self.run_ids)}
        return {**head, **self.values, "status": self.state}


def try_trial(parameters: str, how: Execution, *, report_to_wandb: bool) -> TrialOutcome:
    """Train the runs of one trial, those that the store lacks.

    Args:
        parameters: A JSON object: {"base": "ABLATION/VARIANT", "seeds": [0], "a.b": 1}.
        how: Settings of execution.
        report_to_wandb: Report each epoch to W&B if one of its agents runs this.

    Raises:
        EmaLabError: If the parameters make no run, or its model does not fit.
    """
    store = how.run_store
    trial = read_trial(parameters)
    train, device = prepare(trial, how)
    tracker = start_trial_tracker(trial.base, trial.run_ids) if report_to_wandb else NoTracker()
    end = partial(TrialOutcome, trial.base, tuple(trial.run_ids))
    attempts = how.max_attempts
    try:
        result = run_external_trial(
            trial, train, store, max_attempts=attempts, device=device, follow=tracker.log_epoch
        )
    except KeyboardInterrupt:
        tracker.finish(None)
        if not is_of_agent():
            raise
        return end("stopped")
    tracker.finish({**result.values, "status": result.state, "run_ids": trial.run_ids})
    return end(result.state, result.values, result.message)


def is_of_agent() -> bool:
    """Return whether an agent of W&B has started this process."""
    return bool(os.environ.get(SWEEP_ID))


def prepare(trial: ExternalTrial, how: Execution) -> tuple[Callable[..., Any], str]:
    """Check the model and the data of a trial; return what trains a run, and the device.

    torch is not loaded if every run is trained: W&B may ask for the same trial twice.

    Raises:
        EmaLabError: If the model does not fit, or the data are missing.
    """
    store = how.run_store
    if all(store.facts(run_id).done for run_id in trial.run_ids):
        return _fail_to_train, how.device
    from ema_lab.one_run.pipeline import Machine, load_training, train_run
    from ema_lab.tasks.task import check_run
    from ema_lab.training.machine import choose_device

    load_training()
    check_run(trial.runs[0])
    check_files(trial.runs[0].data, Path(how.data))
    threads = settled_threads(store, base_ablation(trial.base), how.threads, how.device)
    machine = Machine(how.data_folder, how.device, threads, how.loader_workers, how.attention_kernel)
    return partial(train_run, machine=machine), str(choose_device(how.device))


def _fail_to_train(spec: RunSpec, *_args: Any, **_kwargs: Any) -> NoReturn:
    raise StoreError(f"the finished run {spec.run_id} was removed while its trial was being read")
