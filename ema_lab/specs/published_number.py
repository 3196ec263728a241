"""Numbers as a paper prints them: the digits say how exact the claim is."""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

from ema_lab.errors import SpecError

Digits = Literal["rounded", "truncated", "tens"]
_SCALES = {"": 0, "%": 0, "k": 3, "K": 3, "M": 6, "B": 9, "G": 9}
_FORM = re.compile(r"([0-9]+)(?:\.([0-9]+))?([%kKMBG]?)")


@dataclass(frozen=True)
class Printed:
    """A number as it is printed: `23.71M` is 23,710,000, of which 10,000 is the last digit's worth.

    A trailing zero after the point counts as a digit: `95.00` says more than `95`.

    Raises:
        SpecError: If the text is no such number.
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
        found = _FORM.fullmatch(self.text)
        assert found
        return found[1], found[2] or "", found[3]

    @property
    def suffix(self) -> str:
        """The letter after the digits, empty without one."""
        return self._parts[2]

    @property
    def decimals(self) -> int:
        """The number of digits after the point."""
        return len(self._parts[1])

    @property
    def scale(self) -> Decimal:
        """What the suffix multiplies by."""
        return Decimal(10) ** _SCALES[self.suffix]

    @cached_property
    def value(self) -> Decimal:
        """The number itself, its suffix multiplied out."""
        whole, fraction, _ = self._parts
        return Decimal(f"{whole}.{fraction or 0}") * self.scale

    @cached_property
    def step(self) -> Decimal:
        """What one in the last printed digit is worth."""
        return self.scale.scaleb(-self.decimals)

    @property
    def ends_in_ten(self) -> bool:
        """Whether it is a whole number that ends in 0, which may be no digit but a place holder."""
        whole, fraction, _ = self._parts
        return not fraction and whole[-1] == "0" and self.value > 0

    def shows(self, exact: Decimal, digits: Digits = "rounded") -> bool:
        """Whether `exact` is printed so: rounded, truncated, or rounded to tens of the last digit.

        A number halfway between two prints may be rounded to either.
        """
        if digits == "truncated":
            return self.value <= exact < self.value + self.step
        step = self.step * (10 if digits == "tens" else 1)
        return (digits != "tens" or self.ends_in_ten) and 2 * abs(exact - self.value) <= step

    def like(self, exact: Decimal, more_digits: int = 0) -> str:
        """Return another number in this one's unit, with so many digits more."""
        return f"{exact / self.scale:,.{self.decimals + more_digits}f}{self.suffix}"
