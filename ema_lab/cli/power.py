"""What a number of seeds can show, before it is trained: `plan --power`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.cli.output import print_rows, say
from ema_lab.errors import SpecError
from ema_lab.experiments.ablation import Ablation
from ema_lab.experiments.store import RunStore
from ema_lab.registry import unknown_name
from ema_lab.reports.selection import measure, rows_of
from ema_lab.reports.statistics.paired import SIGNIFICANCE
from ema_lab.reports.statistics.power import POWER, detectable_difference, pooled_std, seeds_needed
from ema_lab.specs.metric import METRICS

USUAL_SEEDS = (3, 5, 10, 20)


@dataclass(frozen=True)
class Power:
    """What is asked: the metric, the standard deviation of paired differences, differences to be seen."""

    metric: str = "top1"
    std: float | None = None
    differences: Sequence[float] = ()


def read_power(
    power: bool, metric: str | None, std: float | None, differences: Sequence[float] | None
) -> Power | None:
    """Return what the options ask for; None without --power.

    Raises:
        SpecError: If an option changes nothing, or has no meaning.
    """
    given = {"--metric": metric, "--std": std, "--difference": differences or None}
    if not power:
        for option, value in given.items():
            if value is not None:
                raise SpecError(f"{option} changes nothing without --power")
        return None
    if metric is not None and metric not in METRICS:
        raise SpecError(f"--metric: {unknown_name('metric', metric, METRICS)}")
    for option, values in (("--std", [std] if std is not None else []), ("--difference", differences or [])):
        for value in values:
            if not 0 < value < float("inf"):
                raise SpecError(f"{option} must be above zero, got {value}")
    return Power(metric or "top1", std, tuple(differences or ()))


def show_power(ablation: Ablation, store: RunStore, asked: Power, *, as_json: bool) -> None:
    """Print, for several numbers of seeds, the smallest difference that they show.

    Raises:
        SpecError: If nothing is known of the spread.
    """
    std, words = _spread(ablation, store, asked)
    compared = [row for row in ablation.rows().values() if row[0].variant != ablation.baseline]
    seeds = len({cell.seed for cell in ablation.cells})
    first = SIGNIFICANCE / max(1, len(compared))
    rows = [_line(count, std, first) for count in sorted({seeds, *USUAL_SEEDS})]
    print_rows(rows, as_json=as_json)
    metric = METRICS[asked.metric]
    unit = "points" if metric.unit == "%" else metric.unit
    test = f"two-sided paired t test at 5 %, power {POWER * 100:.0f} %"
    test += f"; Holm: the first of {len(compared)} comparisons"
    say(f"{ablation.name}: {metric.label}, {unit}; {test}")
    say(f"standard deviation of paired differences: {std:.3g} ({words})")
    seen = detectable_difference(seeds, std)
    needed = [_needed(difference, std) for difference in asked.differences or (seen / 2,)]
    can = "nothing: a test needs two" if seeds < 2 else f"{seen:.3g} {unit}"
    for_them = "; ".join(needed) if seeds > 1 or asked.differences else ""
    say(f"with {seeds} seed{'s' * (seeds != 1)} you can see {can}" + (f"; {for_them}" if for_them else ""))


def _spread(ablation: Ablation, store: RunStore, asked: Power) -> tuple[float, str]:
    if asked.std is not None:
        return asked.std, "as given"
    if ablation.baseline is None:
        raise SpecError(f"--power compares with a baseline, and {ablation.name} names none; give --std")
    rows = [row for row in rows_of(ablation, measure(ablation, store)) if not row.is_baseline]
    pooled = pooled_std([row.differences(asked.metric) for row in rows])
    if pooled is None:
        words = f"no row of {ablation.name} has two finished seeds beside its baseline's"
        raise SpecError(f"--power: {words}; give --std, the standard deviation of paired differences")
    std, degrees = pooled
    if std == 0:
        raise SpecError(f"--power: all paired differences of {ablation.name} are equal; give --std")
    return std, f"pooled over finished runs, {degrees} degrees of freedom"


def _line(count: int, std: float, first: float) -> dict[str, Any]:
    if count < 2:
        return {"seeds": count, "detectable": None, "detectable_holm": None}
    return {
        "seeds": count,
        "detectable": detectable_difference(count, std),
        "detectable_holm": detectable_difference(count, std, significance=first),
    }


def _needed(difference: float, std: float) -> str:
    count = seeds_needed(difference, std)
    return f"for {difference:.3g} you need {count or 'more than 10,000'} seeds"
