"""Mirrored content of a search: one tracked run per trial, in the sweep's group."""

from ema_lab.errors import StoreError
from ema_lab.search.history import EndedTrial, History
from ema_lab.search.optimism import num_compared
from ema_lab.store.curve import read_curve
from ema_lab.tracking.mirror.content import STALE, MirrorRun

OPTIMISTIC = "best: optimistic"  # tag of the trials that were chosen for their values
FOLDER = ".mirror/sweeps"  # separate from ablations, whose names may be the same


def trial_runs(history: History) -> list[MirrorRun]:
    """Return one mirrored run per ended trial, in the order of the trials.

    The mirrored id is the study's name and the trial's first number, which a retried trial keeps.

    The trial's value, a mean over seeds, goes under `objective/`. The metric's own name belongs to the curve
    of the first seed, whose last row W&B's summary would show. The best trials carry a tag: their values are
    optimistic.
    """
    best = {trial.number for trial in history.best()} if num_compared(history.trials()) > 1 else set()
    return [_run(trial, history, best) for trial in history.trials()]


def _run(trial: EndedTrial, history: History, best: set[int]) -> MirrorRun:
    name = history.study.study_name
    status = "warm" if trial.warm else trial.state
    is_best = trial.number in best
    values = zip(history.objectives, trial.values or (), strict=False)
    return MirrorRun(
        run_id=f"{name}-{trial.first_number}",
        name=f"trial-{trial.number}",
        group=history.sweep.name,
        job_type="trial",
        tags=(status, *([STALE] if trial.stale else []), *([OPTIMISTIC] if is_best else [])),
        config={
            **trial.choice,
            "sweep": history.sweep.name,
            "study": name,
            "trial": trial.number,
            "seeds": list(history.sweep.seeds),
            "run_ids": list(trial.run_ids),
            "status": status,
            "message": trial.message,
        },
        curve=_curve(trial, history),
        summary={f"objective/{objective.name}": value for objective, value in values},
    )


def _curve(trial: EndedTrial, history: History) -> list[dict[str, float]]:
    """Return the curve of the first seed's run, which is the run that a pruner follows."""
    if not trial.run_ids:
        return []
    try:
        rows = read_curve(history.store.folder(trial.run_ids[0]))
    except StoreError:
        return []
    return [row for row in rows if row.get("epoch", 0.5).is_integer()]
