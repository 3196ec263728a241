"""Numbers as printed in a paper, whose digits give the precision of the claim."""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

from ema_lab.errors import SpecError

Digits = Literal["rounded", "truncated", "tens"]
Units = Literal["decimal", "binary"]  # of k, M and G: powers of 1000 or of 1024
_SCALES = {"": 0, "%": 0, "k": 3, "K": 3, "M": 6, "B": 9, "G": 9}
_FORM = re.compile(r"([0-9]+)(?:\.([0-9]+))?([%kKMBG]?)")


@dataclass(frozen=True)
class PublishedNumber:
    """PublishedNumber number: `23.71M` has the value 23,710,000 and the step 10,000.

    Trailing zeros after the point count as digits: `95.00` is more precise than `95`.

    Raises:
        SpecError: If the text is not a printed number.
    """

    text: str

    def __post_init__(self) -> None:
        if not _FORM.fullmatch(self.text):
            rule = (
                "must be a number as printed, with or without one of k, M, G, B, %, such as 23.71M or 95.00"
            )
            raise SpecError(f"{rule}, got {self.text!r}")

    @cached_property
    def _parts(self) -> tuple[str, str, str]:
        match = _FORM.fullmatch(self.text)
        assert match
        return match[1], match[2] or "", match[3]

    @property
    def suffix(self) -> str:
        """Unit suffix, or "" if none."""
        return self._parts[2]

    @property
    def decimals(self) -> int:
        """Number of digits after the point."""
        return len(self._parts[1])

    @property
    def scale(self) -> Decimal:
        """Factor of the suffix."""
        return Decimal(10) ** _SCALES[self.suffix]

    @cached_property
    def value(self) -> Decimal:
        """Exact value, with the suffix multiplied out."""
        whole, fraction, _ = self._parts
        return Decimal(f"{whole}.{fraction or 0}") * self.scale

    @cached_property
    def step(self) -> Decimal:
        """Value of one unit in the last printed digit."""
        return self.scale.scaleb(-self.decimals)

    @property
    def binary_power(self) -> int:
        """Power of two of the suffix in binary units: 20 for M, 0 without a suffix."""
        return _SCALES[self.suffix] // 3 * 10

    def scale_in(self, units: Units) -> Decimal:
        """Return the factor of the suffix: 10^6 for M, or 2^20 in binary units."""
        return Decimal(2) ** self.binary_power if units == "binary" else self.scale

    def value_in(self, units: Units) -> Decimal:
        """Return the exact value, with the suffix read in these units."""
        return self.value / self.scale * self.scale_in(units)

    def step_in(self, units: Units) -> Decimal:
        """Return the value of one unit in the last printed digit, with the suffix read in these units."""
        return self.step / self.scale * self.scale_in(units)

    @property
    def ends_in_ten(self) -> bool:
        """Whether the number is an integer that ends in 0, which may be rounding to tens."""
        whole, fraction, _ = self._parts
        return not fraction and whole[-1] == "0" and self.value > 0

    def agrees_with(self, exact: Decimal, digits: Digits = "rounded", units: Units = "decimal") -> bool:
        """Return whether `exact` prints as this number: rounded, truncated, or to tens of the last digit.

        A value halfway between two printed numbers agrees with both.
        """
        value, step = self.value_in(units), self.step_in(units)
        if digits == "truncated":
            return value <= exact < value + step
        step *= 10 if digits == "tens" else 1
        return (digits != "tens" or self.ends_in_ten) and 2 * abs(exact - value) <= step

    def format_like(self, exact: Decimal, more_digits: int = 0, units: Units = "decimal") -> str:
        """Format another value in the unit of this number, with `more_digits` extra decimals."""
        return f"{exact / self.scale_in(units):,.{self.decimals + more_digits}f}{self.suffix}"
