"""Winner of a row's search, compared with the recipe as written, with caveats about both."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.search.history import EndedTrial
from ema_lab.search.objective import Objective
from ema_lab.search.result import Results
from ema_lab.search.sweep import Sweep
from ema_lab.specs.chance import chance_level
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.sweep import VALIDATION
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.failure import failure_of
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

AS_WRITTEN = -1  # trial number of the recipe as written: below all others, so that it wins ties
STANDARD_ERRORS = 2.0  # an accuracy within so many standard errors of chance counts as chance


def written_runs(ablation: Ablation, sweeps: Mapping[str, Sweep]) -> Ablation:
    """Return the runs of each row's recipe as written, on the images and seeds of its search."""
    cells = tuple(
        replace(ablation.rows()[row][0], spec=spec, seed=spec.seed)
        for row, sweep in sweeps.items()
        for spec in sweep.runs({})
    )
    return replace(ablation, name=f"{ablation.name} as written", cells=cells, skipped=())


def written_trial(
    sweep: Sweep, store: RunStore, objectives: Sequence[Objective], max_attempts: int
) -> EndedTrial | None:
    """Return the recipe as written as an ended trial without choices; None while runs are missing."""
    run_ids = tuple(spec.run_id for spec in sweep.runs({}))
    results = Results(store, objectives)
    if (values := results.values(run_ids)) is not None:
        return EndedTrial(AS_WRITTEN, "done", {}, values, run_ids, stale=results.stale(run_ids))
    failed = [run_id for run_id in run_ids if store.state(run_id, max_attempts) == "failed"]
    if not failed:
        return None
    failure = failure_of(store.facts(failed[0]))
    return EndedTrial(AS_WRITTEN, "failed", {}, None, run_ids, message=failure.message if failure else "")


def winner(trials: Sequence[EndedTrial], objective: Objective) -> EndedTrial | None:
    """Return the finished trial with the best validation value; None if no trial finished.

    The first of equal trials wins.
    """
    done = [trial for trial in trials if trial.state == "done" and trial.values is not None]
    return min(
        done, key=lambda trial: (-objective.sign * (trial.values or (0.0,))[0], trial.number), default=None
    )


def trial_name(trial: EndedTrial) -> str | int:
    """Return a trial's name in tables: its number in the study, or `as written`."""
    return "as written" if trial.number == AS_WRITTEN else trial.number


def search_notes(
    sweep: Sweep, objective: Objective, written: EndedTrial | None, best: EndedTrial | None
) -> Iterator[str]:
    """Yield caveats about a row's winner, known before its final runs are trained."""
    if written is not None and written.state == "failed":
        why = f" ({written.message})" if written.message else ""
        yield f"the recipe as written failed in the search{why}, so tuning cannot be compared with it"
    if best is None:
        yield "no trial was finished, so there is no winner"
        return
    assert best.values is not None
    if best.number == AS_WRITTEN:
        yield "no trial beats the recipe as written, so the table has that recipe"
    runs = sweep.runs(best.choice)
    images = (runs[0].data.val_images or 0) * len(runs)
    if warning := chance_warning(objective.name, best.values[0], runs[0].data.facts, images):
        yield f"the winner's {warning}"


def final_notes(
    tuned: Sequence[Cell], written: Sequence[Cell], store: RunStore, metric: str
) -> Iterator[str]:
    """Yield caveats about a row's final runs: diverged, at chance, or worse than the recipe as written.

    Args:
        tuned: The row's cells after tuning.
        written: The row's cells in the tuned ablation's source, possibly trained on other seeds.
        store: Store of both.
        metric: Metric that is compared.
    """
    causes = [
        failure.cause
        for cell in tuned
        if (failure := failure_of(store.facts(cell.run_id))) is not None and not store.facts(cell.run_id).done
    ]
    for cause in dict.fromkeys(causes):
        yield f"{causes.count(cause)} of {number_of(len(tuned), 'run')} failed after tuning: {cause}"
    after, before = _values(tuned, store, metric), _values(written, store, metric)
    if not after:
        return
    facts, measured = tuned[0].spec.data.facts, tuned[0].spec.data.task.metrics[metric]
    mean, label = fmean(after), f"{measured.label} after tuning"
    if warning := chance_warning(metric, mean, facts, facts.test_images * len(after)):
        yield f"{label}: {warning}"
    if before and len(before) == len(written) and measured.sign * (mean - fmean(before)) < 0:
        counts = f"n={len(after)}, and n={len(before)} on the ablation's own seeds"
        yield f"{label} ({mean:.2f}) is worse than as written ({fmean(before):.2f}; {counts})"


def _values(cells: Sequence[Cell], store: RunStore, metric: str) -> list[float]:
    """Return a metric of the cells whose runs are done."""
    records = [store.facts(cell.run_id).record for cell in cells]
    return [
        r.metrics[metric] for r in records if r is not None and r.status == "done" and metric in r.metrics
    ]


def chance_warning(name: str, value: float, facts: DatasetFacts, images: int) -> str:
    """Return a warning that a metric is no better than chance; empty if it is better.

    An accuracy counts as chance up to two standard errors above it, for that many guesses. Chance levels are
    known for classification only.
    """
    if facts.task != DEFAULT_TASK:
        return ""
    metric, classes = name.removeprefix(VALIDATION), facts.classes
    guessed = chance_level(metric, facts)
    assert guessed is not None
    if metric == "loss":
        is_guessed = value >= guessed
    else:
        error = math.sqrt(guessed * (100 - guessed) / max(images, 1))
        is_guessed = value <= guessed + STANDARD_ERRORS * error
    if classes < 2 or guessed == 100 or not (is_guessed or math.isnan(value)):
        return ""
    known = number_of(classes, "class")
    return f"{name} of {value:.4g} is at chance: guessing among {known} gives {guessed:.4g}"
