"""Seeds added one by one, only where the comparison with the baseline is open."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.output import print_rows, say
from ema_lab.cli.selection import chosen_metric
from ema_lab.errors import SpecError
from ema_lab.results.selection import Row, measure, rows_of
from ema_lab.statistics.sequential import Decision, SequentialComparison, compare_sequentially, decide
from ema_lab.store.store import RunStore

MAX_SEEDS = 20


@dataclass(frozen=True)
class Until:
    """When seeds are no longer added.

    `metric`: None compares the task's primary one. `margin`: differences below it count as equal; 0 means
    none does.
    """

    max_seeds: int = MAX_SEEDS
    metric: str | None = None
    margin: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """A row and its baseline row, and what their common seeds have shown so far."""

    row: str
    baseline: str
    followed: SequentialComparison
    decision: Decision


def read_until(
    until_decided: bool, max_seeds: int | None, metric: str | None, margin: float | None
) -> Until | None:
    """Return what the options ask for; None without --until-decided.

    Raises:
        SpecError: If an option changes nothing.
    """
    given = {"--max-seeds": max_seeds, "--metric": metric, "--margin": margin}
    if not until_decided:
        for option, value in given.items():
            if value is not None:
                raise SpecError(f"{option} changes nothing without --until-decided")
        return None
    return Until(MAX_SEEDS if max_seeds is None else max_seeds, metric, margin or 0.0)


def run_until_decided(
    ablation: Ablation,
    store: RunStore,
    until: Until,
    run: Callable[[Ablation], int],
    *,
    as_json: bool,
) -> int:
    """Run the ablation, then further seeds of the rows that are not decided, and print the decisions.

    Nothing but the records is kept: called again, it goes the same way through them and goes on.

    Args:
        ablation: All its rows need a baseline row.
        store: Where the records are.
        until: When to stop.
        run: Trains what is pending and returns an exit code.
        as_json: Print the decisions as JSON.
    """
    wanted = dict.fromkeys(ablation.rows(), _check(ablation, until))
    code, asked = 0, ablation
    while True:
        code = max(code, run(asked))
        comparisons = compare(asked, store, until)
        undecided = [one for one in comparisons if one.decision == "open"]
        grown = [one for one in undecided if wanted[one.row] < until.max_seeds]
        if not grown or code:  # a failed run is tried again by the next call, before more seeds
            break
        for one in grown:
            wanted[one.row] += 1
            wanted[one.baseline] = max(wanted[one.baseline], wanted[one.row])
        names = ", ".join(f"{one.row} (seed {wanted[one.row]} of at most {until.max_seeds})" for one in grown)
        say(f"{ablation.name}: not decided: {names}")
        asked = ablation.with_seeds(wanted)
    print_rows([_shown(one) for one in comparisons], as_json=as_json)
    still = f"; {len(undecided)} open" if undecided else ""
    decided = f"{len(comparisons) - len(undecided)} of {len(comparisons)} comparisons decided{still}"
    test = "always-valid paired t tests, Holm-corrected: at most 5 % chance of any false difference"
    say(f"{ablation.name}: {decided} ({test})")
    return code


def _check(ablation: Ablation, until: Until) -> int:
    chosen_metric(ablation, until.metric)
    seeds = len({cell.seed for cell in ablation.cells})
    if until.max_seeds < seeds:
        raise SpecError(f"--max-seeds: {ablation.name} has {seeds} seeds already, got {until.max_seeds}")
    others = [cell for cell in ablation.cells if cell.variant != ablation.baseline]
    if not others:
        raise SpecError(f"--until-decided: {ablation.name} has no row to compare with its baseline")
    for cell in others:
        if ablation.baseline_of(cell) is None:
            words = "compares every row with its baseline"
            raise SpecError(f"--until-decided {words}, and {cell.row} of {ablation.name} has none")
    return seeds


def compare(ablation: Ablation, store: RunStore, until: Until) -> list[Comparison]:
    """Return where every comparison with the baseline stands."""
    rows = [row for row in rows_of(ablation, measure(ablation, store)) if not row.is_baseline]
    name, metric = chosen_metric(ablation, until.metric)
    followed = [compare_sequentially(row.differences(name), len(rows)) for row in rows]
    decisions = decide(followed, metric.sign, until.margin)
    return [
        Comparison(row.name, _baseline_row(ablation, row), one, decision)
        for row, one, decision in zip(rows, followed, decisions, strict=True)
    ]


def _baseline_row(ablation: Ablation, row: Row) -> str:
    base = ablation.baseline_of(row.cells[0].cell)
    assert base is not None  # _check has asked
    return base.row


def _shown(one: Comparison) -> dict[str, Any]:
    known = one.followed
    bounded = known.low > float("-inf")
    return {
        "variant": one.row,
        "baseline": one.baseline,
        "n": known.count,
        "delta": known.mean if known.count else None,
        "low": known.low if bounded else None,
        "high": known.high if bounded else None,
        "p": known.p,
        "decision": one.decision,
    }
