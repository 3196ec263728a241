"""Numbers as text: a number that is printed as zero has no sign."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.statistics import paired_difference
from ema_lab.tables.text import difference_text, number_text, p_text


@pytest.mark.parametrize(
    ("value", "digits", "form", "text"),
    [
        (-0.001, 2, "", "0.00"),
        (-0.001, 2, "+", "0.00"),
        (0.0, 2, "+", "0.00"),
        (0.004, 2, "+", "0.00"),
        (0.005001, 2, "+", "+0.01"),
        (-0.0, 0, "+,", "0"),
        (-1234.5, 1, "+,", "-1,234.5"),
        (1234.5, 1, ",", "1,234.5"),
        (-0.4, 0, "", "0"),
    ],
)
def test_a_number_that_is_printed_as_zero_has_no_sign(value, digits, form, text):
    assert number_text(value, digits, form) == text


@given(value=st.floats(-1e6, 1e6), digits=st.integers(0, 4), form=st.sampled_from(["", "+", ",", "+,"]))
def test_the_text_is_the_rounded_number(value, digits, form):
    text = number_text(value, digits, form)
    assert float(text.replace(",", "")) == round(value, digits)
    assert not (text.startswith(("-", "+")) and float(text.replace(",", "")) == 0)


def test_no_bound_of_an_interval_is_minus_zero():
    assert difference_text(paired_difference([-0.001, -0.001, -0.0012]), 2) == "0.00 [0.00, 0.00]"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "< 0.001"), (0.0494, "0.049"), (0.0496, "0.0496"), (0.049996, "0.049996"), (0.05, "0.050")],
)
def test_a_p_value_reads_on_the_side_of_five_percent_where_it_is(p, text):
    assert p_text(p) == text


@given(p=st.floats(0.001, 1))
def test_a_p_value_is_rounded_and_never_across_five_percent(p):
    assert (float(p_text(p)) < 0.05) is (p < 0.05)
    assert float(p_text(p)) == pytest.approx(p, abs=0.0005)
