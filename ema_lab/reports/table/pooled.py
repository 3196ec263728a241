"""Tests of rows by pooled variances, and the note on the result of the check for pooling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.measured.family import Family
from ema_lab.reports.naming import display_name
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics.moderation import MOST_WEIGHT, OWN_LEVEL
from ema_lab.statistics.pooled import Contrast, corrected_p, pooled_contrasts
from ema_lab.wording import number_of

MOST_NAMED = 10


@dataclass(frozen=True)
class PooledFamily:
    """Contrasts of all compared rows with the baseline.

    Attributes:
        contrasts: Contrast by name of the row.
        left_out: Rows that the check has left out of the pooled variance.
        weight: Weight of the pooled variance relative to a row's own.
    """

    contrasts: Mapping[str, Contrast]
    left_out: tuple[str, ...]
    weight: float

    def corrected(self, margin: float = 0.0) -> dict[str, float]:
        """Return the corrected p-values by row. `margin`: of equivalence, or 0 to test for a difference."""
        return dict(zip(self.contrasts, corrected_p(list(self.contrasts.values()), margin), strict=True))


def pooled_family(metric: str, family: Family) -> PooledFamily:
    """Return the contrasts of all rows that the ablation compares, whatever the report shows of them."""
    names = [row.name for row in family.compared]
    pooled_rows = pooled_contrasts([row.differences(metric) for row in family.compared])
    left_out = tuple(names[index] for index in pooled_rows.left_out)
    contrasts = dict(zip(names, pooled_rows.contrasts, strict=True))
    return PooledFamily(contrasts, left_out, pooled_rows.weight)


def paired_words(spec: ReportSpec, plural: str = "") -> str:
    """Return the name of the t test of paired differences. `plural`: "s" names several.

    A "pooled t test" alone would be read as the unpaired one.
    """
    return f"paired t test{plural}" + (" with pooled variance" if spec.test == "pooled" else "")


def pooled_notes(spec: ReportSpec, family: Family, keys: Sequence[str]) -> list[str]:
    """State the model of pooled tests against the baseline, and the result of the check of variances.

    `keys`: keys of the table's columns.
    """
    uses = {"p", "equivalence"}.intersection(keys) or spec.margin is not None
    if spec.test != "pooled" or not (uses or (spec.intervals == "simultaneous" and "delta" in keys)):
        return []
    pooled_rows, label = pooled_family(spec.metric, family), spec.compared_metric.label
    degrees = sorted({each.pooled.degrees for each in pooled_rows.contrasts.values() if each.pooled})
    if not degrees:
        why = "it takes two rows that can be tested and have similar variances"
        return [f"Pooled variance ({label}): none, {why}; each row is tested by its own variance."]
    span = " to ".join(f"{each:.3g}" for each in dict.fromkeys((degrees[0], degrees[-1])))
    weight = f"{pooled_rows.weight:.1f}"
    model = (
        f"Pooled variance ({label}): the variance of a row's differences within seeds counts once, the mean "
        f"variance of the pooled rows {weight} times, and no row has less than its own; {span} degrees of "
        f"freedom. A row is significant only if its own paired t test is below {100 * OWN_LEVEL:g} %, too."
    )
    return [model, f"Checks of equal variances: {_decision(spec, family, pooled_rows)}."]


def _decision(spec: ReportSpec, family: Family, pooled_rows: PooledFamily) -> str:
    pooled = sum(each.pooled is not None for each in pooled_rows.contrasts.values())
    bartlett = f"weight {pooled_rows.weight:.1f} of at most {MOST_WEIGHT:g} (Bartlett's test)"
    if not pooled_rows.left_out:
        return f"{number_of(pooled, 'row')} pooled, none left out (F tests); {bartlett}"
    names = [
        display_name(spec, row.cells[0].cell) for row in family.compared if row.name in pooled_rows.left_out
    ]
    more = len(names) - MOST_NAMED
    listed = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    left_out = f"left out, and tested by their own variance (F tests): {listed}"
    return f"{number_of(pooled, 'row')} pooled; {left_out}; {bartlett}"
