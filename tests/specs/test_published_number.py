"""A printed number knows what its digits say: which exact numbers are printed so."""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.errors import SpecError
from ema_lab.specs.published_number import PublishedNumber

SCALES = {"": 0, "%": 0, "k": 3, "M": 6, "G": 9, "B": 9}
EXACT = st.integers(0, 10**12).map(lambda number: Decimal(number) / 1000)
DECIMALS = st.integers(0, 4)
SUFFIXES = st.sampled_from(sorted(SCALES))


def printed_with(exact: Decimal, decimals: int, suffix: str, rounding: str) -> PublishedNumber:
    """Return how a person prints a number in a unit, to so many decimals."""
    step = Decimal(1).scaleb(-decimals)
    return PublishedNumber(f"{exact.scaleb(-SCALES[suffix]).quantize(step, rounding)}{suffix}")


@given(EXACT, DECIMALS, SUFFIXES, st.sampled_from([ROUND_HALF_UP, ROUND_HALF_EVEN]))
def test_a_rounded_number_shows_what_it_was_rounded_from(exact, decimals, suffix, rounding):
    assert printed_with(exact, decimals, suffix, rounding).agrees_with(exact)


@given(EXACT, DECIMALS, SUFFIXES)
def test_a_truncated_number_shows_what_it_was_truncated_from(exact, decimals, suffix):
    assert printed_with(exact, decimals, suffix, ROUND_DOWN).agrees_with(exact, "truncated")


@given(EXACT, DECIMALS, SUFFIXES, st.integers(1, 1000))
def test_it_shows_nothing_further_away_than_its_digits_say(exact, decimals, suffix, thousandths):
    printed = printed_with(exact, decimals, suffix, ROUND_HALF_UP)
    beyond = Decimal(thousandths) * printed.step / 1000
    assert not printed.agrees_with(printed.value + printed.step / 2 + beyond)
    assert not printed.agrees_with(printed.value - printed.step / 2 - beyond)
    assert not printed.agrees_with(printed.value - beyond, "truncated")
    assert not printed.agrees_with(printed.value + printed.step + beyond, "truncated")


@given(st.integers(1, 10**9))
def test_tens_are_for_whole_numbers_that_end_in_zero(number):
    tens = PublishedNumber(str((number + 5) // 10 * 10))
    assert tens.agrees_with(Decimal(number), "tens") is (tens.value > 0)
    assert not PublishedNumber(f"{number}.0").agrees_with(Decimal(number), "tens")


@given(EXACT, DECIMALS, SUFFIXES)
def test_another_number_is_shown_in_the_same_unit(exact, decimals, suffix):
    printed = printed_with(exact, decimals, suffix, ROUND_HALF_EVEN)
    assert printed.format_like(printed.value).replace(",", "") == printed.text


@pytest.mark.parametrize(
    ("text", "value", "step"),
    [
        ("23.71M", 23_710_000, 10_000),
        ("95.00", 95, Decimal("0.01")),
        ("300M", 300_000_000, 1_000_000),
        ("16.50G", 16_500_000_000, 10_000_000),
        ("3504872", 3_504_872, 1),
        ("80.69%", Decimal("80.69"), Decimal("0.01")),
    ],
)
def test_the_digits_say_how_exact_it_is(text, value, step):
    printed = PublishedNumber(text)
    assert (printed.value, printed.step) == (value, step)


@pytest.mark.parametrize("text", ["", "M", "-1", "1,000", "1e6", "23.71 M", "23.M", "~24M", "nan", "١"])
def test_what_is_no_printed_number_is_refused(text):
    with pytest.raises(SpecError, match="must be a number as printed"):
        PublishedNumber(text)


@pytest.mark.parametrize(
    ("exact", "text", "digits"),
    [
        (300_774_272, "300M", ["truncated", "tens"]),
        (306_666_368, "310M", ["tens"]),
        (306_666_368, "300M", []),
        (23_705_252, "23.71M", ["rounded"]),
        (7_235_389, "7.23M", ["truncated"]),
        (315_267_000_000, "315.2G", ["truncated"]),
        (318_141_000_000, "315.0G", []),
    ],
)
def test_the_papers_numbers(exact, text, digits):
    printed = PublishedNumber(text)
    assert [d for d in ("rounded", "truncated", "tens") if printed.agrees_with(Decimal(exact), d)] == digits
