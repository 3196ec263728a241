"""What a number of seeds can show, before it is trained: `plan --power`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.selection import chosen_metric
from ema_lab.errors import SpecError
from ema_lab.results.selection import measure, rows_of
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.power import POWER, detectable_difference, pooled_std, seeds_needed
from ema_lab.store.store import RunStore

USUAL_SEEDS = (3, 5, 10, 20)
FIELDS = ("seeds", "detectable", "detectable_holm", "difference", "seeds_holm")


@dataclass(frozen=True)
class Power:
    """The request: a metric (None: the primary one), the deviation of paired differences, differences."""

    metric: str | None = None
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
    for option, values in (("--std", [std] if std is not None else []), ("--difference", differences or [])):
        for value in values:
            if not 0 < value < float("inf"):
                raise SpecError(f"{option} must be above zero, got {value}")
    return Power(metric, std, tuple(differences or ()))


def show_power(ablation: Ablation, store: RunStore, asked: Power, *, as_json: bool) -> None:
    """Print, for several numbers of seeds, the smallest difference that they show, and the seeds it takes.

    Raises:
        SpecError: If nothing is known of the spread.
    """
    name, metric = chosen_metric(ablation, asked.metric)
    std, words = _spread(ablation, store, asked.std, name)
    compared = sum(row[0].variant != ablation.baseline for row in ablation.rows().values())
    family = Family(std, SIGNIFICANCE / max(1, compared))
    seeds = len({cell.seed for cell in ablation.cells})
    half = (family.detectable(seeds, family.first) / 2,) if seeds > 1 else ()
    seen = [family.seen(count) for count in sorted({seeds, *USUAL_SEEDS})]
    needed = [family.needed(difference) for difference in asked.differences or half]
    if as_json:
        print_rows([{**dict.fromkeys(FIELDS), **row} for row in (*seen, *needed)], as_json=True)
    else:
        print_rows(seen, as_json=False)
        put()
        print_rows(needed, as_json=False)
    unit = metric.unit_of_differences
    say(
        f"{ablation.name}: {metric.label}, {unit}; two-sided paired t test at 5 %, power {POWER:.0%}; "
        f"holm: at 5 % / {max(1, compared)}, the first step of the table's {compared} comparisons",
        f"standard deviation of paired differences: {std:.3g} ({words})",
        _headline(seeds, unit, family, needed),
    )


@dataclass(frozen=True)
class Family:
    """Comparisons whose paired differences have the deviation `std`; `first`: the level of Holm's first."""

    std: float
    first: float

    def detectable(self, seeds: int, level: float) -> float:
        return detectable_difference(seeds, self.std, significance=level)

    def seen(self, seeds: int) -> dict[str, Any]:
        """Return what a number of seeds shows; None for a single one."""
        levels = {"detectable": SIGNIFICANCE, "detectable_holm": self.first}
        shown = {key: self.detectable(seeds, level) if seeds > 1 else None for key, level in levels.items()}
        return {"seeds": seeds, **shown}

    def needed(self, difference: float) -> dict[str, Any]:
        """Return how many seeds a difference takes; None above 10,000."""
        levels = {"seeds": SIGNIFICANCE, "seeds_holm": self.first}
        counts = {key: seeds_needed(difference, self.std, significance=at) for key, at in levels.items()}
        return {"difference": difference, **counts}


def _headline(seeds: int, unit: str, family: Family, needed: Sequence[Mapping[str, Any]]) -> str:
    words = "nothing: a test needs two"
    if seeds > 1:
        words = f"{family.detectable(seeds, family.first):.3g} {unit}"
        if family.first < SIGNIFICANCE:
            words += (
                f" in any row ({family.detectable(seeds, SIGNIFICANCE):.3g} if there were one comparison)"
            )
    parts = [
        f"for {row['difference']:.3g} you need {row['seeds_holm'] or 'more than 10,000'} seeds"
        for row in needed
    ]
    return "; ".join([f"with {seeds} seed{'s' * (seeds != 1)} you can see {words}", *parts])


def _spread(ablation: Ablation, store: RunStore, given: float | None, metric: str) -> tuple[float, str]:
    if given is not None:
        return given, "as given"
    if ablation.baseline is None:
        raise SpecError(f"--power compares with a baseline, and {ablation.name} names none; give --std")
    rows = [row for row in rows_of(ablation, measure(ablation, store)) if not row.is_baseline]
    pooled = pooled_std([row.differences(metric) for row in rows])
    if pooled is None:
        words = f"no row of {ablation.name} has two finished seeds beside its baseline's"
        raise SpecError(f"--power: {words}; give --std, the standard deviation of paired differences")
    std, degrees = pooled
    if std == 0:
        raise SpecError(f"--power: all paired differences of {ablation.name} are equal; give --std")
    return std, f"pooled over finished runs, {degrees} degrees of freedom"
