"""Statistical power of an ablation before it is trained: which differences its seeds can detect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.measured.selection import measure, rows_of
from ema_lab.specs.metric import Metric
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.power import ASSURANCE, detectable_difference, pooled_std, seeds_needed, upper_std
from ema_lab.store.store import RunStore
from ema_lab.workflow.selection import chosen_metric

USUAL_SEEDS = (3, 5, 10, 20)


@dataclass(frozen=True)
class Power:
    """Request for a power analysis.

    Attributes:
        metric: Metric that is compared; None takes the task's primary one.
        std: Standard deviation of paired differences; None takes the upper limit of that of finished runs.
        differences: Differences to detect, for each of which the number of seeds is returned.

    Raises:
        SpecError: If a number is not above zero.
    """

    metric: str | None = None
    std: float | None = None
    differences: Sequence[float] = ()

    def __post_init__(self) -> None:
        for option, values in (("--std", [self.std]), ("--difference", self.differences)):
            for value in values:
                if value is not None and not 0 < value < float("inf"):
                    raise SpecError(f"{option} must be above zero, got {value}")


@dataclass(frozen=True)
class Family:
    """Comparisons of rows. `std`: deviation of paired differences; `first`: level of Holm's first step."""

    std: float
    first: float

    def detectable(self, seeds: int, level: float) -> float:
        """Return the smallest difference that `seeds` seeds detect at a level of significance."""
        return detectable_difference(seeds, self.std, significance=level)

    def by_seeds(self, seeds: int) -> dict[str, Any]:
        """Return the differences that a number of seeds detects; None for a single seed."""
        levels = {"detectable": SIGNIFICANCE, "detectable_holm": self.first}
        differences = {
            key: self.detectable(seeds, level) if seeds > 1 else None for key, level in levels.items()
        }
        return {"seeds": seeds, **differences}

    def by_difference(self, difference: float) -> dict[str, Any]:
        """Return the number of seeds that detect a difference; None above 10,000."""
        levels = {"seeds": SIGNIFICANCE, "seeds_holm": self.first}
        counts = {key: seeds_needed(difference, self.std, significance=at) for key, at in levels.items()}
        return {"difference": difference, **counts}


@dataclass(frozen=True)
class PowerTable:
    """Power of the paired tests of an ablation.

    Attributes:
        ablation: Its rows are compared with its baseline.
        metric: Metric that is compared.
        origin: Where the standard deviation comes from, in words.
        compared: Number of comparisons, which Holm's correction counts.
        family: The comparisons.
        by_seeds: Detectable differences by number of seeds, as flat objects.
        by_difference: Seeds needed by difference, as flat objects.
    """

    ablation: Ablation
    metric: Metric
    origin: str
    compared: int
    family: Family
    by_seeds: tuple[dict[str, Any], ...]
    by_difference: tuple[dict[str, Any], ...]


def power(ablation: Ablation, store: RunStore, request: Power) -> PowerTable:
    """Return the smallest detectable difference by number of seeds, and the seeds needed by difference.

    Raises:
        SpecError: If nothing is known of the spread.
    """
    name, metric = chosen_metric(ablation, request.metric)
    std, origin = _spread(ablation, store, request.std, name)
    compared = ablation.num_compared
    family = Family(std, SIGNIFICANCE / max(1, compared))
    seeds = len({cell.seed for cell in ablation.cells})
    half = (family.detectable(seeds, family.first) / 2,) if seeds > 1 else ()
    by_seeds = tuple(family.by_seeds(count) for count in sorted({seeds, *USUAL_SEEDS}))
    by_difference = tuple(family.by_difference(difference) for difference in request.differences or half)
    return PowerTable(ablation, metric, origin, compared, family, by_seeds, by_difference)


def _spread(ablation: Ablation, store: RunStore, std: float | None, metric: str) -> tuple[float, str]:
    if std is not None:
        return std, "as given"
    if ablation.baseline is None:
        raise SpecError(f"--power compares with a baseline, and {ablation.name} names none; give --std")
    rows = [row for row in rows_of(ablation, measure(ablation, store)) if not row.is_baseline]
    pooled = pooled_std([row.differences(metric) for row in rows])
    if pooled is None:
        problem = f"no row of {ablation.name} has two finished seeds beside its baseline's"
        raise SpecError(f"--power: {problem}; give --std, the standard deviation of paired differences")
    spread, degrees = pooled
    if spread == 0:
        raise SpecError(f"--power: all paired differences of {ablation.name} are equal; give --std")
    origin = f"upper {ASSURANCE:.0%} limit of {spread:.3g}, pooled over finished runs"
    return upper_std(spread, degrees), f"{origin}, degrees of freedom: {degrees:.3g}"
