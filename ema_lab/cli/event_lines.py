"""Lines on standard error for the events of a grid or a search; the displays show the others."""

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch

from ema_lab.cli.duration import write_duration
from ema_lab.store.layout import SUPERSEDED
from ema_lab.workflow import events
from ema_lab.workflow.outcome import FailedCell


@singledispatch
def event_lines(event: events.Event) -> Iterable[str]:
    """Return the lines of an event; most events have one, some none."""
    return ()


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is needed."""
    return f"{number} {noun}{'s' * (number != 1)}"


def stale_lines(ablation: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line per set of changed parts: number of stale results, and command that renews them."""
    for parts, number in counts.items():
        changed = f"the source of {parts.replace(' ', ', ')} has changed"
        them = "them" if number > 1 else "it"
        remedy = f"ema-lab run {ablation} --refresh trains {them} again"
        yield f"{count(number, 'stale result')}: {changed}; {remedy}"


@event_lines.register
def _remark(event: events.Remark) -> Iterable[str]:
    yield f"{event.subject}: {event.text}" if event.subject else event.text


@event_lines.register
def _runs_chosen(event: events.RunsChosen) -> Iterable[str]:
    where = f"on {event.engine}" if event.engine else f"with {count(event.workers, 'worker')}"
    each = f", {count(event.threads, 'thread')} each" if event.threads else ""
    yield f"{event.ablation}: {count(event.runs, 'run')} to train {where}{each}; checking them first"


@event_lines.register
def _rounded_evaluation(event: events.RoundedEvaluation) -> Iterable[str]:
    advice = "recipe.evaluation_precision: fp32 evaluates in fp32, under another run id"
    yield f"{event.ablation}: evaluated in bf16, where rounding ties predictions: {event.runs}; {advice}"


@event_lines.register
def _unclean_pairs(event: events.UncleanPairs) -> Iterable[str]:
    runs = f"{event.runs} of {count(event.pending, 'run')} to train"
    rule = "will be no clean pair with the others of the seed, marked †"
    yield f"warning: {runs} {rule} ({event.differences})"
    if event.finished_threads is not None:
        yield f"hint: --threads {event.finished_threads} is what the finished runs had"


@event_lines.register
def _stale_kept(event: events.StaleKept) -> Iterable[str]:
    yield f"{count(event.runs, 'stale result')} moved to {SUPERSEDED}/ of the run's folder"


@event_lines.register
def _grid_ended(event: events.GridEnded) -> Iterable[str]:
    outcome = event.outcome
    counts = f"{len(outcome.trained)} trained, {len(outcome.done_before)} done before"
    counts += f", {len(outcome.failed)} failed"
    counts += f", {len(outcome.elsewhere)} trained by another process" if outcome.elsewhere else ""
    name = outcome.ablation.name
    yield f"{name}: {counts} (store {outcome.store.root})"
    yield from stale_lines(name, outcome.stale)
    yield from (_failed_line(cell, outcome.max_attempts) for cell in outcome.failed)


def _failed_line(cell: FailedCell, max_attempts: int) -> str:
    tail = "the next run tries it again"
    if cell.given_up:
        tail = f"left alone after {max_attempts} attempts: ema-lab retry makes it pending"
    if cell.unreadable:
        tail = "left alone until that is settled"
    return f"failed: {cell.variant} seed {cell.seed} ({cell.run_id}): {cell.reason}; {tail}"


@event_lines.register
def _seeds_added(event: events.SeedsAdded) -> Iterable[str]:
    rows = (f"{row} (seed {number} of at most {event.max_seeds})" for row, number in event.seeds.items())
    yield f"{event.ablation}: not decided: {', '.join(rows)}"


@event_lines.register
def _row_probed(event: events.RowProbed) -> Iterable[str]:
    model = event.spec.model
    run = f"{model.attention.name} in {model.backbone}: {write_duration(event.seconds)} a run"
    yield f"[{event.number}/{event.total}] {run}"


@event_lines.register
def _learned(event: events.Learned) -> Iterable[str]:
    if event.choices:
        yield f"{event.sweep}: {count(event.choices, 'finished choice')} of the store to learn from"
    if event.left_out:
        are = "choice is" if event.left_out == 1 else "choices are"
        stale = "stale, as the source has changed since"
        yield f"{event.sweep}: {event.left_out} finished {are} not learned from: {stale}"


@event_lines.register
def _trials_chosen(event: events.TrialsChosen) -> Iterable[str]:
    trials = f"{event.limit} trials" if event.limit else f"trials for {event.seconds:g} s"
    over = f", {event.over} of them over" if event.over else ""
    workers = count(event.workers, "worker")
    yield f"{event.sweep}: {trials}{over}, with {workers}; checking them first"


@event_lines.register
def _agents_started(event: events.AgentsStarted) -> Iterable[str]:
    yield f"{event.sweep}: {count(event.agents, 'agent')} of the W&B sweep {event.address}"


@event_lines.register
def _space_reduced(event: events.SpaceReduced) -> Iterable[str]:
    names, rows = ", ".join(event.parameters), f"the rows of {event.ablation} are what is compared"
    yield f"{event.space}: {names} left out: {rows}"


@event_lines.register
def _row_search_started(event: events.RowSearchStarted) -> Iterable[str]:
    pruning = "unpruned" if event.pruner == "none" else f"pruned by {event.pruner}"
    yield f"row {event.row!r}: {event.sampler}, {pruning}, study {event.study}"


@event_lines.register
def _trials_missing(event: events.TrialsMissing) -> Iterable[str]:
    rows = ", ".join(f"{row} lacks {number}" for row, number in event.missing.items())
    rule = "unequal budgets are not compared; call it again to go on"
    yield f"of {event.budget} trials a row and its recipe as written, {rows}: {rule}"


@event_lines.register
def _trials_failed(event: events.TrialsFailed) -> Iterable[str]:
    yield f"{event.row}: {event.failed} of {event.budget} trials FAILED"


@event_lines.register
def _winner_missing(event: events.WinnerMissing) -> Iterable[str]:
    if event.row is None:
        yield "no row has a winner: nothing is written"
    else:
        trials = f"none of its {event.budget} trials was finished"
        yield f"{event.row}: {trials}, so it has no winner and is a hole"


@event_lines.register
def _file_written(event: events.FileWritten) -> Iterable[str]:
    yield f"{event.path}: written"


@event_lines.register
def _counting_started(event: events.CountingStarted) -> Iterable[str]:
    yield f"counting the multiply-adds of {event.models} models, one image each"


@event_lines.register
def _timing_started(event: events.TimingStarted) -> Iterable[str]:
    yield f"timing {event.row} beside {event.baseline}"
