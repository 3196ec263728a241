"""W&B run of a sweep's trial, inside a W&B agent that sets its id by environment variables."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ema_lab.tracking.live import Guarded, NoTracker, Tracker

SWEEP_ID = "WANDB_SWEEP_ID"
STOPPED = 255  # exit code of an interrupted run in W&B's client


def start_trial_tracker(base: str, run_ids: Sequence[str]) -> Tracker:
    """Start the W&B run of an agent's trial; outside an agent, return a tracker that does nothing."""
    return Guarded(lambda: WandbTrial(base, run_ids)) if os.environ.get(SWEEP_ID) else NoTracker()


class WandbTrial:
    """Live tracker of a trial: the epochs of its first seed, and the means over seeds at the end."""

    def __init__(self, base: str, run_ids: Sequence[str]) -> None:
        import wandb

        self._run = wandb.init(
            group=base, job_type="trial", settings=wandb.Settings(console="off", silent=True)
        )
        self._run.config["run_ids"] = list(run_ids)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        # Commit now: W&B writes an uncommitted row at the end, over the means in the summary.
        self._run.log(dict(row), step=int(row["epoch"]), commit=True)

    def finish(self, outcome: Mapping[str, Any] | None) -> None:
        """Finish the run with the trial's summary; None marks an interrupted trial, which can resume."""
        if outcome is None:
            self._run.finish(exit_code=STOPPED)
            return
        self._run.summary.update(dict(outcome))
        self._run.finish(exit_code=1 if outcome.get("status") == "failed" else 0)
