"""Ways to count and to print: a published count says neither, so each is tried."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import get_args

from ema_lab.specs.published import ConventionSpec, MacCount, ParameterCount
from ema_lab.specs.published_number import Digits, PublishedNumber

Costs = Mapping[str, int]
COUNTED: Mapping[str, str] = {
    "parameters": "all parameters",
    "parameters_without_norm": "without norms",
    "parameters_without_own_norm": "without the module's own norms",
    "parameters_fused": "norms fused",
    "macs_matmul": "convolutions, linear layers and matrix products",
    "macs": "with norms, as fvcore",
    "macs_thop": "as thop 0.0.31",
}


@dataclass(frozen=True)
class Convention:
    """What is counted, how many operations a multiply-add is, and what is done to the digits."""

    count: str
    per_mac: int = 1
    digits: Digits = "rounded"

    def number(self, costs: Costs) -> Decimal | None:
        """Return the count, unrounded; None where it was not made."""
        return Decimal(self.per_mac * costs[self.count]) if self.count in costs else None

    def fits(self, costs: Costs, printed: PublishedNumber) -> bool:
        """Whether a model with these costs is printed so."""
        number = self.number(costs)
        return number is not None and printed.agrees_with(number, self.digits)

    def words(self, printed: PublishedNumber, usual: "Convention | None" = None) -> str:
        """Return what the convention is, or only in what it differs from the usual one."""
        parts = [] if usual and usual.count == self.count else [COUNTED[self.count]]
        if (usual.per_mac if usual else 1) != self.per_mac:
            parts.append(f"{self.per_mac} per multiply-add")
        if not usual or usual.digits != self.digits:
            tens = f"rounded to 10{printed.suffix}"
            parts.append(tens if self.digits == "tens" else self.digits)
        return ", ".join(parts)


def conventions(quantity: str, assumed: ConventionSpec) -> list[Convention]:
    """Return what is tried for a quantity: the assumed convention, then what differs from it in one respect.

    Two departures at once would fit too much by chance.
    """
    if quantity == "parameters":
        usual = Convention(assumed.parameters, 1, assumed.digits)
        others = [replace(usual, count=count) for count in get_args(ParameterCount)]
    else:
        usual = Convention(assumed.macs, assumed.flops_per_mac if quantity == "flops" else 1, assumed.digits)
        others = [replace(usual, count=count) for count in get_args(MacCount)]
        others += [replace(usual, per_mac=per_mac) for per_mac in (1, 2)]
    others += [replace(usual, digits=digits) for digits in get_args(Digits)]
    return list(dict.fromkeys([usual, *others]))


def support(
    column: Iterable[tuple[PublishedNumber, Costs]], tried: Sequence[Convention]
) -> Counter[Convention]:
    """Count the rows of a column that each convention fits."""
    return Counter(item for printed, costs in column for item in tried if item.fits(costs, printed))
