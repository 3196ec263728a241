"""The W&B run of a sweep's trial: inside an agent, which names it by environment variables."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ema_lab.tracking.live import Guarded, NoTracker, Tracker

SWEEP_ID = "WANDB_SWEEP_ID"
STOPPED = 255  # the exit code that W&B's client gives an interrupted run


def start_trial_tracker(base: str, run_ids: Sequence[str]) -> Tracker:
    """Start the run that W&B's agent has asked for; outside an agent, a tracker that does nothing."""
    return Guarded(lambda: WandbTrial(base, run_ids)) if os.environ.get(SWEEP_ID) else NoTracker()


class WandbTrial:
    """A trial as W&B sees it: the epochs of its first seed, and the means over seeds at the end."""

    def __init__(self, base: str, run_ids: Sequence[str]) -> None:
        import wandb

        self._run = wandb.init(
            group=base, job_type="trial", settings=wandb.Settings(console="off", silent=True)
        )
        self._run.config["run_ids"] = list(run_ids)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        # Committed now: a row that is left open is written at the end, over the summary's means.
        self._run.log(dict(row), step=int(row["epoch"]), commit=True)

    def finish(self, outcome: Mapping[str, Any] | None) -> None:
        """End the run with the trial's summary; None: it was stopped, and goes on another time."""
        if outcome is None:
            self._run.finish(exit_code=STOPPED)
            return
        self._run.summary.update(dict(outcome))
        self._run.finish(exit_code=1 if outcome.get("status") == "failed" else 0)
