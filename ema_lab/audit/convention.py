"""Conventions of counting and rounding. A published count names none, so an audit tries each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import get_args

from ema_lab.specs.published import ConventionSpec, MacCount, ParameterCount
from ema_lab.specs.published_number import Digits, PublishedNumber, Units

Costs = Mapping[str, int]
COUNT_LABELS: Mapping[str, str] = {
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
    """Counting convention: counted operations, operations per multiply-add, rounding, unit of suffixes."""

    count: str
    per_mac: int = 1
    digits: Digits = "rounded"
    units: Units = "decimal"

    def number(self, costs: Costs) -> Decimal | None:
        """Return the unrounded count under the convention; None if `costs` lacks the count."""
        return Decimal(self.per_mac * costs[self.count]) if self.count in costs else None

    def fits(self, costs: Costs, claim: PublishedNumber) -> bool:
        """Return whether the claim is the count of a model with these costs under the convention."""
        number = self.number(costs)
        return number is not None and claim.agrees_with(number, self.digits, self.units)

    def describe(self, claim: PublishedNumber, assumed: "Convention | None" = None) -> str:
        """Describe the convention, or only its difference from the assumed one."""
        parts = [] if assumed and assumed.count == self.count else [COUNT_LABELS[self.count]]
        if (assumed.per_mac if assumed else 1) != self.per_mac:
            parts.append(f"{self.per_mac} per multiply-add")
        if not assumed or assumed.digits != self.digits:
            tens = f"rounded to 10{claim.suffix}"
            parts.append(tens if self.digits == "tens" else self.digits)
        if (assumed.units if assumed else "decimal") != self.units:
            parts.append(self._units_of(claim))
        return ", ".join(parts)

    def _units_of(self, claim: PublishedNumber) -> str:
        base, power = (2, 10) if self.units == "binary" else (10, 3)
        if not claim.suffix:  # of another claim of the column
            return f"units of {base}^{power}"
        return f"{claim.suffix} as {base}^{claim.binary_power // 10 * power}"


def conventions(quantity: str, assumed: ConventionSpec) -> list[Convention]:
    """Return the conventions to try for a quantity: the assumed one, then those with one difference from it.

    Conventions with two differences are left out: so many would fit a claim by chance.
    """
    if quantity == "parameters":
        base = Convention(assumed.parameters, 1, assumed.digits, assumed.units)
        others = [replace(base, count=count) for count in get_args(ParameterCount)]
    else:
        per_mac = assumed.flops_per_mac if quantity == "flops" else 1
        base = Convention(assumed.macs, per_mac, assumed.digits, assumed.units)
        others = [replace(base, count=count) for count in get_args(MacCount)]
        others += [replace(base, per_mac=per_mac) for per_mac in (1, 2)]
    others += [replace(base, digits=digits) for digits in get_args(Digits)]
    others += [replace(base, units=units) for units in get_args(Units)]
    return list(dict.fromkeys([base, *others]))


def support(
    column: Iterable[tuple[PublishedNumber, Costs]], tried: Sequence[Convention]
) -> Counter[Convention]:
    """Count for each convention the rows of a column that it fits."""
    return Counter(item for claim, costs in column for item in tried if item.fits(costs, claim))
