"""Sequential seeds: added one by one to the rows whose comparison with the baseline is open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.measured.selection import Row, measure, rows_of
from ema_lab.statistics.group_sequential import MOST_PLANNED, compare_decided
from ema_lab.statistics.sequential import MIN_SEEDS, decide
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.events import SeedsAdded
from ema_lab.workflow.execution import Watch
from ema_lab.workflow.outcome import Comparison, GridOutcome
from ema_lab.workflow.selection import chosen_metric

MAX_SEEDS = 20


@dataclass(frozen=True)
class Until:
    """Rule that ends the addition of seeds.

    Attributes:
        max_seeds: Seeds of a row at most, a number fixed before the first result.
        metric: Metric that is compared; None takes the task's primary one.
        margin: Differences below it count as equal; 0 treats every difference as one.
        open_ended: Whether `max_seeds` may be raised later. The always-valid test then replaces the
            group-sequential one and needs more seeds. No comparison is futile.

    Raises:
        SpecError: If a number is out of range.

    Example:
        >>> ema_lab.Until(max_seeds=8, margin=0.5).metric is None
        True
    """

    max_seeds: int = MAX_SEEDS
    metric: str | None = None
    margin: float = 0.0
    open_ended: bool = False

    def __post_init__(self) -> None:
        if self.max_seeds < MIN_SEEDS:
            raise SpecError(f"max_seeds must be {MIN_SEEDS} or more, got {self.max_seeds}")
        if self.max_seeds > MOST_PLANNED and not self.open_ended:
            rule = f"max_seeds must be {MOST_PLANNED} or less unless the end is open (--open-ended)"
            raise SpecError(f"{rule}, got {self.max_seeds}")
        if not self.margin >= 0:
            raise SpecError(f"margin must be 0 or more, got {self.margin}")

    @property
    def planned_seeds(self) -> int | None:
        """Number of seeds that the group-sequential design plans; None if the end is open."""
        return None if self.open_ended else self.max_seeds


def run_until_decided(
    ablation: Ablation, until: Until, train: Callable[[Ablation], GridOutcome], watch: Watch
) -> GridOutcome:
    """Train the ablation, then further seeds of the undecided rows.

    Only the records are kept: a later call takes the same decisions from them and continues.

    Args:
        ablation: All its rows need a baseline row.
        until: When to stop.
        train: Trains what is pending of an ablation.
        watch: Observer of the events.
    """
    num_seeds = dict.fromkeys(ablation.rows(), _check(ablation, until))
    current, rounds = ablation, list[GridOutcome]()
    while True:
        rounds.append(train(current))
        comparisons = compare(current, rounds[-1].store, until)
        undecided = [each for each in comparisons if each.decision == "open"]
        grown = [each for each in undecided if num_seeds[each.row] < until.max_seeds]
        if not grown or not rounds[-1].ok:  # a failed run is tried again by the next call, before more seeds
            return _joined(rounds, comparisons)
        for each in grown:
            num_seeds[each.row] += 1
            num_seeds[each.baseline] = max(num_seeds[each.baseline], num_seeds[each.row])
        added = {each.row: num_seeds[each.row] for each in grown}
        watch(SeedsAdded(ablation.name, added, until.max_seeds))
        current = ablation.with_seeds(num_seeds)


def _joined(rounds: Sequence[GridOutcome], comparisons: Sequence[Comparison]) -> GridOutcome:
    """Return one outcome for all rounds. Runs that an earlier round trained do not count as done before."""
    trained = tuple(run_id for outcome in rounds for run_id in outcome.trained)
    elsewhere = tuple(run_id for outcome in rounds for run_id in outcome.elsewhere)
    before = tuple(run_id for run_id in rounds[-1].done_before if run_id not in {*trained, *elsewhere})
    last = replace(rounds[-1], trained=trained, elsewhere=elsewhere, done_before=before)
    return replace(last, comparisons=tuple(comparisons))


def _check(ablation: Ablation, until: Until) -> int:
    chosen_metric(ablation, until.metric)
    seeds = len({cell.seed for cell in ablation.cells})
    if until.max_seeds < seeds:
        raise SpecError(
            f"--max-seeds: {ablation.name} has {number_of(seeds, 'seed')} already, got {until.max_seeds}"
        )
    others = [cell for cell in ablation.cells if cell.variant != ablation.baseline]
    if not others:
        raise SpecError(f"--until-decided: {ablation.name} has no row to compare with its baseline")
    for cell in others:
        if ablation.baseline_of(cell) is None:
            rule = "compares every row with its baseline"
            raise SpecError(f"--until-decided {rule}, and {cell.row} of {ablation.name} has none")
    return seeds


def compare(ablation: Ablation, store: RunStore, until: Until) -> list[Comparison]:
    """Return every row's comparison with its baseline, from the records.

    The decisions hold for all rows of the ablation, also those that `--only` leaves out.
    """
    rows = [row for row in rows_of(ablation, measure(ablation, store)) if not row.is_baseline]
    name, metric = chosen_metric(ablation, until.metric)
    family = ablation.num_compared
    followed = [compare_decided(row.differences(name), family, until.planned_seeds) for row in rows]
    decisions = decide(followed, metric.sign, until.margin, family)
    return [
        Comparison(row.name, _baseline_row(ablation, row), comparison, decision)
        for row, comparison, decision in zip(rows, followed, decisions, strict=True)
    ]


def _baseline_row(ablation: Ablation, row: Row) -> str:
    base = ablation.baseline_of(row.cells[0].cell)
    assert base is not None  # _check has refused rows without one
    return base.row
