"""Verdicts follow from digits, counts and intervals alone."""

import statistics
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import t

from ema_lab.audit.convention import Convention, conventions, support
from ema_lab.audit.verdict import (
    Counted,
    Kind,
    corrected_together,
    count_verdict,
    trained_beside,
    trained_verdict,
)
from ema_lab.specs.published import ConventionSpec
from ema_lab.specs.published_number import PublishedNumber
from ema_lab.statistics import summarise

COSTS = {
    "parameters": 23_903_620,
    "parameters_without_norm": 23_849_556,
    "parameters_without_own_norm": 23_902_676,
    "parameters_fused": 23_877_060,
}
WITHIN = "agrees: differs, but by less than 0.5 points: trained is 0.19 (0.24 %) less"


def judged(text, costs, quantity="parameters", baseline=None, others=(), **assumed):
    """Return the verdict on one claim; `others` are the other rows of its column."""
    tried = conventions(quantity, ConventionSpec.model_validate(assumed))
    row = Counted(PublishedNumber(text), costs)
    column = [(row.claim, costs), *((PublishedNumber(claim), counts) for claim, counts in others)]
    return count_verdict(row, tried, support(column, tried), baseline)


@given(st.integers(1, 10**12), st.integers(0, 3), st.sampled_from(["", "k", "M", "G"]))
def test_what_is_rounded_agrees(number, decimals, suffix):
    scale = PublishedNumber(f"1{suffix}").value
    text = f"{Decimal(number) / scale:.{decimals}f}{suffix}"
    assert judged(text, {"parameters": number}).kind is Kind.AGREES


@given(st.integers(1, 10**12), st.integers(0, 3), st.sampled_from(["", "k", "M", "G"]))
def test_a_count_always_has_a_verdict_that_its_digits_support(number, decimals, suffix):
    printed = PublishedNumber(f"{Decimal(number):.{decimals}f}{suffix}")
    verdict = judged(printed.text, {"parameters": 12_345_678})
    shown = [d for d in ("rounded", "truncated", "tens") if printed.agrees_with(Decimal(12_345_678), d)]
    expected = Kind.AGREES if "rounded" in shown else Kind.OTHER_CONVENTION if shown else Kind.DISAGREES
    assert verdict.kind is expected
    assert verdict.difference == float(12_345_678 - printed.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("23.90M", "agrees"),
        ("23.85M", "agrees under another convention: without norms"),
        ("23.88M", "agrees under another convention: norms fused"),
        ("23.903M", "agrees under another convention: without the module's own norms; or truncated"),
        ("23902676", "agrees under another convention: without the module's own norms"),
        ("23.71M", "disagrees: computed is 0.19M (0.82 %) more"),
        ("23.9037M", "disagrees: computed is 0.0001M (0.00033 %) less"),
        ("47.8M", "disagrees: computed is 23.9M (50 %) less"),
    ],
)
def test_each_way_to_count_parameters_is_tried(text, expected):
    assert str(judged(text, COSTS)) == expected


@pytest.mark.parametrize(
    ("text", "quantity", "expected"),
    [
        ("301M", "flops", "agrees"),
        ("314M", "flops", "agrees under another convention: with norms, as fvcore"),
        ("328M", "flops", "agrees under another convention: as thop 0.0.31"),
        ("602M", "flops", "agrees under another convention: 2 per multiply-add"),
        ("602M", "macs", "agrees under another convention: 2 per multiply-add"),
        ("300M", "flops", "agrees under another convention: truncated; or rounded to 10M"),
        ("300.79M", "flops", "nearly agrees: computed is 0.02M (0.0052 %) less"),
        ("310M", "flops", "disagrees: computed is 9M (3.0 %) less"),
        ("306M", "flops", "disagrees: computed is 5M (1.7 %) less"),
    ],
)
def test_each_way_to_count_operations_is_tried(text, quantity, expected):
    costs = {"macs_matmul": 300_774_272, "macs": 314_130_496, "macs_thop": 327_550_720}
    assert str(judged(text, costs, quantity)) == expected


def test_what_a_row_adds_decides_between_nearly_and_not():
    plain = ("plain", Counted(PublishedNumber("16.5G"), {"macs_thop": 8_266_231_600}))
    words = {"macs": "macs_thop", "flops_per_mac": 2}
    near = judged("16.50G", {"macs_thop": 8_288_869_200}, "flops", plain, **words)
    assert str(near) == "nearly agrees: computed is 0.08G (0.47 %) more; what it adds to plain agrees"
    far = judged("16.53G", {"macs_thop": 8_340_500_000}, "flops", plain, **words)
    assert str(far) == "disagrees: computed is 0.15G (0.91 %) more"
    wide = judged("17.0G", {"macs_thop": 8_600_000_000}, "flops", plain, **words)
    assert wide.kind is Kind.DISAGREES


def test_a_row_that_leaves_the_convention_of_its_column_is_reported_so():
    siblings = [("7.23M", {"parameters": 7_235_389, "parameters_fused": 7_225_885})] * 3
    odd = {"parameters": 7_238_685, "parameters_fused": 7_229_181}
    assert str(judged("7.24M", odd, others=siblings)) == (
        "agrees under another convention: all parameters, rounded; not that of most rows of the column "
        "(norms fused; or truncated)"
    )
    assert judged("7.24M", odd).kind is Kind.AGREES


def test_a_row_that_fits_every_convention_agrees_whatever_its_column_does():
    same = {"parameters": 1_000_000, "parameters_fused": 1_000_000}
    siblings = [("1.0M", {"parameters": 1_200_000, "parameters_fused": 1_000_000})] * 2
    assert judged("1.0M", same, others=siblings).kind is Kind.AGREES


def test_the_convention_that_a_table_states_is_tried_first():
    verdict = judged("23.85M", COSTS, parameters="parameters_without_norm")
    assert str(verdict) == "agrees"
    tried = conventions("flops", ConventionSpec(macs="macs_thop", flops_per_mac=2, digits="truncated"))
    assert tried[0] == Convention("macs_thop", 2, "truncated")
    assert len(tried) == len(set(tried)) == 7


def test_what_is_not_counted_is_not_run():
    assert judged("23.85M", {}).kind is Kind.NOT_RUN
    assert judged("0M", {"parameters": 5}, "parameters").kind is Kind.AGREES


def judged_runs(text, *values, relevant=0.5, seeds=1):
    """Return the verdict on one claim about a metric, alone in its file."""
    claim = PublishedNumber(text)
    [trained] = corrected_together(
        [trained_beside(claim, values, len(values), claim_seeds=seeds, relevant=relevant)]
    )
    return trained_verdict(claim, trained, relevant)


def test_one_seed_decides_nothing():
    assert str(judged_runs("80.69", 80.69)) == "inconclusive: one seed has no interval"


@pytest.mark.parametrize(
    ("values", "relevant", "expected"),
    [
        ([80.6, 80.7, 80.8], 0.5, "agrees"),
        ([80.6, 80.7, 80.8], 0.3, "inconclusive: a difference of 0.35 is not ruled out"),
        ([79.7, 80.7, 81.7], 0.5, "inconclusive: a difference of 3.39 is not ruled out"),
        ([79.6, 79.7, 79.8], 0.5, "disagrees: trained is 0.99 (1.2 %) less"),
        ([82.6, 82.7, 82.8], 0.5, "disagrees: trained is 2.01 (2.5 %) more"),
        ([80.49, 80.49, 80.5, 80.5, 80.51], 0.5, WITHIN),
        ([80.69, 80.69], 0.5, "inconclusive: equal values have no interval"),
    ],
)
def test_runs_confirm_only_what_they_could_have_denied(values, relevant, expected):
    assert str(judged_runs("80.69", *values, relevant=relevant)) == expected


def test_a_claim_is_contradicted_only_beyond_its_rounding():
    values = [80.6940, 80.6942, 80.6944, 80.6946, 80.6948]
    assert judged_runs("80.69", *values).kind is Kind.AGREES
    assert judged_runs("80.69", *values, relevant=0.001).kind is Kind.INCONCLUSIVE
    assert judged_runs("80.690", *values, relevant=0.001).kind is Kind.DISAGREES


def test_a_claim_of_whole_points_is_not_confirmed_within_half_a_point():
    assert judged_runs("80", 79.99, 80.0, 80.01).kind is Kind.INCONCLUSIVE


def test_more_seeds_behind_a_claim_make_it_more_exact():
    values = [79.9, 80.1, 80.0]
    assert judged_runs("80.40", *values).kind is Kind.INCONCLUSIVE
    assert judged_runs("80.40", *values, seeds=100).kind is Kind.DISAGREES


def test_tests_are_corrected_over_the_claims_that_are_tested():
    claim = PublishedNumber("80.40")
    values = [[79.9, 80.1, 80.0]] * 4 + [[80.4]]
    alone = trained_beside(claim, values[0], 3, claim_seeds=100, relevant=0.5)
    together = corrected_together(
        [trained_beside(claim, each, 3, claim_seeds=100, relevant=0.5) for each in values]
    )
    assert [trained.family for trained in together] == [4] * 5
    assert together[0].corrected_difference_p == pytest.approx(4 * alone.difference_p)
    assert together[0].corrected_agreement_p == pytest.approx(min(1.0, 4 * alone.agreement_p))
    assert trained_verdict(claim, together[0], 0.5).kind is Kind.INCONCLUSIVE
    assert trained_verdict(claim, together[4], 0.5).reason == "one seed has no interval"


@given(
    st.lists(st.floats(0, 100), min_size=2, max_size=8),
    st.integers(0, 10_000).map(lambda number: f"{number / 100:.2f}"),
    st.floats(0.01, 5),
    st.integers(1, 5),
)
def test_every_verdict_on_runs_follows_from_two_tests(values, text, relevant, seeds):
    assume(summarise(values).has_spread)
    verdict = judged_runs(text, *values, relevant=relevant, seeds=seeds)
    value, half = float(PublishedNumber(text).value), float(PublishedNumber(text).step) / 2
    difference = abs(statistics.fmean(values) - value)
    error = statistics.stdev(values) * (1 / len(values) + 1 / seeds) ** 0.5
    one_sided, two_sided = (t.ppf(level, len(values) - 1) * error for level in (0.95, 0.975))
    assume(abs(difference + half + one_sided - relevant) > 1e-9 * (1 + one_sided))
    assume(abs(difference - half - two_sided) > 1e-9 * (1 + two_sided))
    agrees = bool(difference + half + one_sided < relevant)
    assert (verdict.kind is Kind.AGREES) is agrees
    assert (verdict.kind is Kind.DISAGREES) is bool(not agrees and difference - half > two_sided)
    assert verdict.difference == pytest.approx(statistics.fmean(values) - value)


class TestTrueClaims:
    """A claim is one run with the same truth as ours, as most papers print it."""

    @staticmethod
    def share_of(kind, repetitions, seeds, offset=0.0):
        random = np.random.default_rng(seeds)
        ours, claims = (
            random.normal(80, 0.5, (repetitions, seeds)),
            random.normal(80 + offset, 0.5, repetitions),
        )
        verdicts = (judged_runs(f"{c:.2f}", *each.tolist()) for c, each in zip(claims, ours, strict=True))
        return np.mean([verdict.kind is kind for verdict in verdicts])

    @pytest.mark.parametrize("seeds", [3, 20])
    def test_are_rarely_contradicted(self, seeds):
        assert self.share_of(Kind.DISAGREES, 500, seeds) <= 0.08

    def test_that_differ_by_what_is_relevant_are_rarely_confirmed(self):
        assert self.share_of(Kind.AGREES, 500, 20, offset=0.5) <= 0.08

    @pytest.mark.slow
    @pytest.mark.parametrize("seeds", [3, 5, 10, 20])
    def test_are_contradicted_in_five_percent(self, seeds):
        assert self.share_of(Kind.DISAGREES, 8000, seeds) == pytest.approx(0.05, abs=0.008)
        assert self.share_of(Kind.AGREES, 8000, seeds, offset=0.5) <= 0.055


def test_without_runs_there_is_no_verdict():
    assert trained_verdict(PublishedNumber("80.69"), None, 0.5).kind is Kind.NOT_RUN


@pytest.mark.parametrize(
    ("macs", "kind"),
    [
        (300_300_000, Kind.NEARLY_AGREES),
        (299_700_000, Kind.NEARLY_AGREES),
        (300_310_000, Kind.DISAGREES),
        (299_690_000, Kind.DISAGREES),
        (300_590_000, Kind.DISAGREES),
    ],
)
def test_counts_nearly_agree_within_a_thousandth_and_no_further(macs, kind):
    assert judged("300.00M", {"macs": macs}, "macs", macs="macs").kind is kind


@pytest.mark.parametrize(("percent", "kind"), [(0.99, Kind.NEARLY_AGREES), (1.01, Kind.DISAGREES)])
def test_counts_that_add_alike_nearly_agree_within_a_hundredth_and_no_further(percent, kind):
    more = int(percent * 3_000_000)
    baseline = ("plain", Counted(PublishedNumber("290.00M"), {"macs": 290_000_000 + more}))
    assert judged("300.00M", {"macs": 300_000_000 + more}, "macs", baseline, macs="macs").kind is kind


@pytest.mark.parametrize(("more", "kind"), [(10_000, Kind.NEARLY_AGREES), (10_100, Kind.DISAGREES)])
def test_what_is_added_agrees_to_half_a_printed_digit_of_either(more, kind):
    baseline = ("plain", Counted(PublishedNumber("290.00M"), {"macs": 291_500_000}))
    assert judged("300.00M", {"macs": 301_500_000 + more}, "macs", baseline, macs="macs").kind is kind


@pytest.mark.parametrize(
    ("text", "counts"),
    [("24.37M", 25_557_032), ("42.49M", 44_549_160), ("57.40M", 60_192_808), ("3.34M", 3_504_872)],
)
def test_counts_in_units_of_two_to_the_twenty_agree_under_another_convention(text, counts):
    """The parameters that ECA-Net (arXiv:1910.03151) prints of ResNets and MobileNetV2."""
    assert str(judged(text, {"parameters": counts})) == "agrees under another convention: M as 2^20"
    assert str(judged(text, {"parameters": counts}, units="binary")) == "agrees"


@pytest.mark.parametrize(("text", "count"), [("1.00k", 1024), ("1.00M", 1 << 20), ("1.00G", 1 << 30)])
def test_each_suffix_has_its_power_of_two(text, count):
    assert judged(text, {"parameters": count}, units="binary").difference == 0.0
    other = judged(text, {"parameters": 2 * count}, units="binary")
    assert str(other) == f"disagrees: computed is {text} (100 %) more"
