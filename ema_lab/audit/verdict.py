"""Verdicts on published numbers. Nothing here is decided by hand: see `count_verdict`, `trained_verdict`."""

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

NEARLY = Decimal("0.001")
NEARLY_WITH_BASELINE = Decimal("0.01")


class Kind(StrEnum):
    """What can be said of a published number."""

    AGREES = "agrees"
    OTHER_CONVENTION = "agrees under another convention"
    NEARLY_AGREES = "nearly agrees"
    DISAGREES = "disagrees"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reason; `difference` is ours minus the claim, in units of one (or points)."""

    kind: Kind
    reason: str = ""
    difference: float | None = None
    relative: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else str(self.kind)


@dataclass(frozen=True)
class Trained:
    """What `count` of `expected` seeds show.

    The mean, its 95 % t interval, and the smallest true difference from a claim that so many seeds would
    show with a probability of 80 %.

    Without an interval (one seed, or equal values) its bounds are NaN.
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
        ValueError: If there is none.
    """
    summary = summarise(values)
    detectable = detectable_difference(summary.count, summary.std)  # one sample is a pair's differences
    return Trained(summary.mean, *summary.interval, detectable, summary.count, expected)


def trained_verdict(printed: PublishedNumber, trained: Trained | None, relevant: float) -> Verdict:
    """Compare a claim with trained seeds.

    It disagrees where no number that is printed as the claim lies in the 95 % t interval. It agrees where
    one does and these seeds could have shown a difference of `relevant`; else they decide nothing.
    """
    if trained is None:
        return Verdict(Kind.NOT_RUN)
    value, half = float(printed.value), float(printed.step) / 2
    difference = trained.mean - value
    numbers = (difference, difference / value if value else None)
    if math.isnan(trained.low):
        reason = "one seed has no interval" if trained.count < 2 else "equal values have no interval"
        return Verdict(Kind.INCONCLUSIVE, reason, *numbers)
    if not trained.low <= value + half or not value - half <= trained.high:
        return Verdict(Kind.DISAGREES, f"trained is {_amount(printed, Decimal(str(difference)))}", *numbers)
    if trained.detectable > relevant:
        reason = f"the difference these seeds could detect is {trained.detectable:.2f}"
        return Verdict(Kind.INCONCLUSIVE, reason, *numbers)
    return Verdict(Kind.AGREES, "", *numbers)


@dataclass(frozen=True)
class Counted:
    """A printed count and the costs of the model."""

    printed: PublishedNumber
    costs: Costs


def count_verdict(
    row: Counted,
    tried: Sequence[Convention],
    column: Counter[Convention],
    baseline: tuple[str, Counted] | None = None,
) -> Verdict:
    """Compare a claim with the model's counts.

    It agrees where the count, rounded as the table is assumed to, is what is printed, unless a convention
    that fits more rows of the column does not fit this one. It agrees under another convention where
    another count, or another treatment of the digits, gives what is printed. Operations nearly agree
    within 0.1 %, or within 1 % where what the row adds to its baseline agrees to the printed digits.

    Args:
        row: The claim and the costs.
        tried: Every convention, the assumed one first.
        column: The number of rows in the column that each convention fits.
        baseline: The name, claim and costs of the row that this one is compared with.
    """
    usual, fitting = tried[0], [item for item in tried if item.fits(row.costs, row.printed)]
    number = usual.number(row.costs)
    if number is None:
        return Verdict(Kind.NOT_RUN)
    difference = number - row.printed.value
    relative = difference / row.printed.value if row.printed.value else None
    numbers = (float(difference), None if relative is None else float(relative))
    most = max(column.values(), default=0)
    if usual in fitting and any(column[item] == most for item in fitting):
        return Verdict(Kind.AGREES, "", *numbers)
    if usual in fitting:
        theirs = _listed([item for item in tried if column[item] == most], row.printed, usual)
        reason = f"{usual.words(row.printed)}; not that of most rows of the column ({theirs})"
        return Verdict(Kind.OTHER_CONVENTION, reason, *numbers)
    if fitting:
        best = max(column[item] for item in fitting)
        reason = _listed([item for item in fitting if column[item] == best], row.printed, usual)
        return Verdict(Kind.OTHER_CONVENTION, reason, *numbers)
    amount = f"computed is {_amount(row.printed, difference)}"
    if usual.count.startswith("macs") and relative is not None:
        if abs(relative) <= NEARLY:
            return Verdict(Kind.NEARLY_AGREES, amount, *numbers)
        if baseline and abs(relative) <= NEARLY_WITH_BASELINE and _adds_alike(row, baseline[1], usual):
            reason = f"{amount}; what it adds to {baseline[0]} agrees"
            return Verdict(Kind.NEARLY_AGREES, reason, *numbers)
    return Verdict(Kind.DISAGREES, amount, *numbers)


def _listed(items: Sequence[Convention], printed: PublishedNumber, usual: Convention) -> str:
    return "; or ".join(item.words(printed, usual) for item in items)


def _adds_alike(row: Counted, baseline: Counted, convention: Convention) -> bool:
    """Whether row minus baseline is the same in print and in truth, as far as the digits say."""
    more, less = convention.number(row.costs), convention.number(baseline.costs)
    if more is None or less is None:
        return False
    claimed = row.printed.value - baseline.printed.value
    return 2 * abs(more - less - claimed) <= row.printed.step + baseline.printed.step


def _amount(printed: PublishedNumber, difference: Decimal) -> str:
    """Return `0.05M (0.22 %) more`."""
    size = printed.format_like(abs(difference))
    if not float(size.rstrip("kKMBG%").replace(",", "")):
        size = printed.format_like(abs(difference), 2)
    word = "more" if difference > 0 else "less"
    if not printed.value:
        return f"{size} {word}"
    percent = 100 * abs(difference) / printed.value
    return f"{size} ({percent:,.0f} %) {word}" if percent >= 10 else f"{size} ({percent:.2g} %) {word}"
