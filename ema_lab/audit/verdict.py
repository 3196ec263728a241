"""Verdicts on published numbers, by fixed rules: see `count_verdict` and `trained_verdict`."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from ema_lab.audit.convention import Convention, Costs
from ema_lab.specs.published_number import PublishedNumber, Units
from ema_lab.statistics import holm
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.replication import Replication, replicate
from ema_lab.wording import number_of

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
    """Finished seeds of a row beside a claim about it, and the tests of both.

    Attributes:
        replication: The seeds, and the number of seeds behind the claim.
        expected: Number of seeds of the ablation.
        difference_p: P-value of a difference; NaN if untestable.
        agreement_p: P-value of two one-sided tests that the difference is irrelevant; NaN if untestable.
        corrected_difference_p: `difference_p`, Holm-corrected over the claims of the file that are tested.
        corrected_agreement_p: `agreement_p`, likewise.
        family: Number of claims of the file that are tested.
    """

    replication: Replication
    expected: int
    difference_p: float
    agreement_p: float
    corrected_difference_p: float = math.nan
    corrected_agreement_p: float = math.nan
    family: int = 1

    @property
    def mean(self) -> float:
        """Mean over the finished seeds."""
        return self.replication.summary.mean

    @property
    def count(self) -> int:
        """Number of finished seeds."""
        return self.replication.summary.count


def rounding_of(claim: PublishedNumber) -> float:
    """Return the largest difference between a claim and the number before rounding."""
    return float(claim.step) / 2


def trained_beside(
    claim: PublishedNumber, values: Sequence[float], expected: int, *, claim_seeds: int, relevant: float
) -> Trained:
    """Test a row's finished seeds against a claim, without a correction.

    Args:
        claim: The published number.
        values: The finished seeds.
        expected: Number of seeds of the ablation.
        claim_seeds: Number of seeds behind the claim.
        relevant: Smallest difference that matters, in the unit of the claim.

    Raises:
        ValueError: If no seed has finished.
    """
    replication, value, rounding = replicate(values, claim_seeds), float(claim.value), rounding_of(claim)
    different = replication.p_of_difference(value, rounding)
    agreeing = replication.p_of_agreement(value, relevant, rounding)
    return Trained(replication, expected, different, agreeing)


def corrected_together(all_trained: Sequence[Trained]) -> list[Trained]:
    """Return the tests of all claims of a file with p-values that Holm's procedure corrects over the file."""
    testable = sum(trained.replication.is_testable for trained in all_trained)
    differences = _corrected([trained.difference_p for trained in all_trained])
    agreements = _corrected([trained.agreement_p for trained in all_trained])
    return [
        replace(
            trained, corrected_difference_p=different, corrected_agreement_p=agreeing, family=max(1, testable)
        )
        for trained, different, agreeing in zip(all_trained, differences, agreements, strict=True)
    ]


def _corrected(p_values: Sequence[float]) -> list[float]:
    """Return Holm-corrected p-values.

    A single seed cannot be tested, and does not count towards the family.
    """
    corrected = iter(holm([p for p in p_values if not math.isnan(p)]))
    return [math.nan if math.isnan(p) else next(corrected) for p in p_values]


def trained_verdict(claim: PublishedNumber, trained: Trained | None, relevant: float) -> Verdict:
    """Compare a claim with trained seeds.

    A claim is a measurement, too: the mean of some seeds, by default one. It stands for all numbers that
    round to it. It agrees if two one-sided tests show that it and the seeds' mean differ by less than
    `relevant`. It disagrees if a test shows a difference. Otherwise the verdict is inconclusive: too few
    seeds, here or behind the claim, to tell agreement from noise. Of all claims of a file, the probability
    of any false "disagrees" is at most 5 %, and so is that of any false "agrees".

    Args:
        claim: The published number.
        trained: The seeds with their tests; None if no seed has finished.
        relevant: Smallest difference that matters, in the unit of the claim.
    """
    if trained is None:
        return Verdict(Kind.NOT_RUN)
    value = float(claim.value)
    difference = trained.mean - value
    numbers = (difference, difference / value if value else None)
    if not trained.replication.is_testable:
        reason = "one seed has no interval" if trained.count < 2 else "equal values have no interval"
        return Verdict(Kind.INCONCLUSIVE, reason, *numbers)
    differs = trained.corrected_difference_p < SIGNIFICANCE
    amount = f"trained is {_amount(claim, Decimal(str(difference)))}"
    # Agreement comes first: with many seeds a difference may be significant and still irrelevant.
    if trained.corrected_agreement_p < SIGNIFICANCE:
        reason = f"differs, but by less than {number_of(relevant, 'point')}: {amount}" if differs else ""
        return Verdict(Kind.AGREES, reason, *numbers)
    if differs:
        return Verdict(Kind.DISAGREES, amount, *numbers)
    bound = trained.replication.bound(value, rounding_of(claim), SIGNIFICANCE / trained.family)
    return Verdict(Kind.INCONCLUSIVE, f"a difference of {bound:.2f} is not ruled out", *numbers)


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
    - Agrees under another convention: another count, rounding or unit of the suffix gives the claim.
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
    units = assumed.units
    difference = number - row.claim.value_in(units)
    relative = difference / row.claim.value_in(units) if row.claim.value else None
    numbers = (float(difference), None if relative is None else float(relative))
    most = max(column.values(), default=0)
    # One number may fit a convention by chance, so the convention must also fit most rows of the column.
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
    amount = f"computed is {_amount(row.claim, difference, units)}"
    # Operations only: counters differ in small operators, but every parameter can be counted.
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
    """Return whether claimed and computed difference to the baseline agree within the published digits."""
    more, less = convention.number(row.costs), convention.number(baseline.costs)
    if more is None or less is None:
        return False
    units = convention.units
    claimed = row.claim.value_in(units) - baseline.claim.value_in(units)
    return 2 * abs(more - less - claimed) <= row.claim.step_in(units) + baseline.claim.step_in(units)


def _amount(claim: PublishedNumber, difference: Decimal, units: Units = "decimal") -> str:
    """Format a difference in the form of the claim, such as `0.05M (0.22 %) more`."""
    size = claim.format_like(abs(difference), units=units)
    if not float(size.rstrip("kKMBG%").replace(",", "")):
        size = claim.format_like(abs(difference), 2, units)
    word = "more" if difference > 0 else "less"
    if not claim.value:
        return f"{size} {word}"
    percent = 100 * abs(difference) / claim.value_in(units)
    return f"{size} ({percent:,.0f} %) {word}" if percent >= 10 else f"{size} ({percent:.2g} %) {word}"
