"""Verdicts on published numbers, by fixed rules: see `count_verdict` and `trained_verdict`."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from ema_lab.audit.convention import Convention, Costs
from ema_lab.specs.published_number import PublishedNumber
from ema_lab.statistics import summarise
from ema_lab.statistics.power import detectable_difference

# Largest relative differences of operation counts; the wider limit needs more evidence, see `count_verdict`.
NEARLY = Decimal("0.001")
NEARLY_WITH_BASELINE = Decimal("0.01")


class Kind(StrEnum):
    """Kind of verdict on a published number."""

    AGREES = "agrees"
    OTHER_CONVENTION = "agrees under another convention"
    NEARLY_AGREES = "nearly agrees"
    DISAGREES = "disagrees"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """Verdict on a published number.

    Attributes:
        kind: The verdict.
        reason: Explanation; empty if the kind says all.
        difference: Ours minus the claim, in single parameters or operations, or in percentage points.
        relative: `difference` over the claim; None for a claim of 0.
    """

    kind: Kind
    reason: str = ""
    difference: float | None = None
    relative: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else str(self.kind)


@dataclass(frozen=True)
class Trained:
    """Summary of the finished seeds of a row.

    Attributes:
        mean: Mean over the finished seeds.
        low: Lower bound of the mean's 95 % t interval; NaN for one seed or equal values.
        high: Upper bound of that interval.
        detectable: Smallest true difference from a claim that so many seeds detect with a power of 80 %.
        count: Number of finished seeds.
        expected: Number of seeds of the ablation.
    """

    mean: float
    low: float
    high: float
    detectable: float
    count: int
    expected: int


def trained_summary(values: Sequence[float], expected: int) -> Trained:
    """Summarise the finished seeds of a row.

    Raises:
        ValueError: If no seed has finished.
    """
    summary = summarise(values)
    detectable = detectable_difference(
        summary.count, summary.std
    )  # a one-sample test has the power of a paired test
    return Trained(summary.mean, *summary.interval, detectable, summary.count, expected)


def trained_verdict(claim: PublishedNumber, trained: Trained | None, relevant: float) -> Verdict:
    """Compare a claim with trained seeds.

    The claim means any number that rounds to it. It disagrees if the 95 % t interval holds none of these
    numbers. It agrees if the interval holds one and the seeds could have detected a difference of `relevant`.
    Otherwise the verdict is inconclusive: too few seeds to tell agreement from noise.

    Args:
        claim: The published number.
        trained: Summary of the seeds; None if no seed has finished.
        relevant: Smallest difference that matters, in the unit of the claim.
    """
    if trained is None:
        return Verdict(Kind.NOT_RUN)
    value, half = float(claim.value), float(claim.step) / 2
    difference = trained.mean - value
    numbers = (difference, difference / value if value else None)
    if math.isnan(trained.low):
        reason = "one seed has no interval" if trained.count < 2 else "equal values have no interval"
        return Verdict(Kind.INCONCLUSIVE, reason, *numbers)
    if not trained.low <= value + half or not value - half <= trained.high:
        return Verdict(Kind.DISAGREES, f"trained is {_amount(claim, Decimal(str(difference)))}", *numbers)
    if trained.detectable > relevant:
        reason = f"the difference these seeds could detect is {trained.detectable:.2f}"
        return Verdict(Kind.INCONCLUSIVE, reason, *numbers)
    return Verdict(Kind.AGREES, "", *numbers)


@dataclass(frozen=True)
class Counted:
    """Published count and the costs of the model."""

    claim: PublishedNumber
    costs: Costs


def count_verdict(
    row: Counted,
    tried: Sequence[Convention],
    column: Counter[Convention],
    baseline: tuple[str, Counted] | None = None,
) -> Verdict:
    """Compare a claim with the model's counts.

    - Agrees: the count under the assumed convention is the claim. One convention must explain the column:
      if another fits more of its rows but not this one, the verdict is "under another convention".
    - Agrees under another convention: another count or rounding gives the claim.
    - Nearly agrees: operations differ by at most 0.1 %. The limit is 1 % if the difference to the baseline
      row agrees within the published digits.
    - Disagrees: none of these.

    Args:
        row: The claim and the costs.
        tried: All conventions, the assumed one first.
        column: Number of rows of the column that each convention fits.
        baseline: Name, claim and costs of the row's baseline.
    """
    assumed, fitting = tried[0], [item for item in tried if item.fits(row.costs, row.claim)]
    number = assumed.number(row.costs)
    if number is None:
        return Verdict(Kind.NOT_RUN)
    difference = number - row.claim.value
    relative = difference / row.claim.value if row.claim.value else None
    numbers = (float(difference), None if relative is None else float(relative))
    most = max(column.values(), default=0)
    if assumed in fitting and any(column[item] == most for item in fitting):
        return Verdict(Kind.AGREES, "", *numbers)
    if assumed in fitting:
        theirs = _listed([item for item in tried if column[item] == most], row.claim, assumed)
        reason = f"{assumed.describe(row.claim)}; not that of most rows of the column ({theirs})"
        return Verdict(Kind.OTHER_CONVENTION, reason, *numbers)
    if fitting:
        best = max(column[item] for item in fitting)
        reason = _listed([item for item in fitting if column[item] == best], row.claim, assumed)
        return Verdict(Kind.OTHER_CONVENTION, reason, *numbers)
    amount = f"computed is {_amount(row.claim, difference)}"
    if assumed.count.startswith("macs") and relative is not None:
        if abs(relative) <= NEARLY:
            return Verdict(Kind.NEARLY_AGREES, amount, *numbers)
        if baseline and abs(relative) <= NEARLY_WITH_BASELINE and _adds_alike(row, baseline[1], assumed):
            reason = f"{amount}; what it adds to {baseline[0]} agrees"
            return Verdict(Kind.NEARLY_AGREES, reason, *numbers)
    return Verdict(Kind.DISAGREES, amount, *numbers)


def _listed(items: Sequence[Convention], claim: PublishedNumber, assumed: Convention) -> str:
    return "; or ".join(item.describe(claim, assumed) for item in items)


def _adds_alike(row: Counted, baseline: Counted, convention: Convention) -> bool:
    """Whether claimed and computed difference to the baseline agree within the published digits."""
    more, less = convention.number(row.costs), convention.number(baseline.costs)
    if more is None or less is None:
        return False
    claimed = row.claim.value - baseline.claim.value
    return 2 * abs(more - less - claimed) <= row.claim.step + baseline.claim.step


def _amount(claim: PublishedNumber, difference: Decimal) -> str:
    """Format a difference in the form of the claim, such as `0.05M (0.22 %) more`."""
    size = claim.format_like(abs(difference))
    if not float(size.rstrip("kKMBG%").replace(",", "")):
        size = claim.format_like(abs(difference), 2)
    word = "more" if difference > 0 else "less"
    if not claim.value:
        return f"{size} {word}"
    percent = 100 * abs(difference) / claim.value
    return f"{size} ({percent:,.0f} %) {word}" if percent >= 10 else f"{size} ({percent:.2g} %) {word}"
