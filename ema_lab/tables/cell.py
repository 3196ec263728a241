"""Cells of a table: a number, its runs, its flags and its mark."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

HOLE = "n/a"


class Flag(StrEnum):
    """Warning about a cell. `HOLE`: no run is done. `MISSING`: some runs are not done."""

    HOLE = "hole"
    MISSING = "missing"
    SINGLE_SEED = "single_seed"
    UNCLEAN = "unclean"
    STALE = "stale"
    PRUNED = "pruned"


class Mark(StrEnum):
    """Mark of a cell, as far as a test supports it.

    `BEST` and `SECOND`: rank in the column. `UNTESTED`: in no test of the column. `EQUIVALENT`: shown to
    differ from the baseline by less than the report's margin.
    """

    BEST = "best"
    SECOND = "second"
    UNTESTED = "untested"
    EQUIVALENT = "equivalent"


SIGNS: Mapping[Flag, str] = {Flag.UNCLEAN: "†", Flag.STALE: "‡", Flag.PRUNED: "¶"}
MARK_SIGNS: Mapping[Mark, str] = {Mark.EQUIVALENT: "≈", Mark.UNTESTED: "?"}
SpreadKind = Literal[
    "std",
    "se",
    "interval",
    "bootstrap",
    "paired_interval",
    "simultaneous_interval",
    "always_valid",
    "repeated_interval",
    "seeds_and_images",
    "images",
    "datasets",
]
SCOPES: Mapping[str, str] = {  # population that a spread generalises to; by default OVER_SEEDS
    "seeds_and_images": "over seeds and test images",
    "images": "over test images, for these trained networks",
    "datasets": "over data sets",
}
OVER_SEEDS = "over seeds, for this test set"


@dataclass(frozen=True)
class TableCell:
    """Cell of a table. Numbers are unrounded, in the unit of the records.

    Attributes:
        text: The formatted number, without n and signs; None is a hole.
        count: The text about n: `n=3`, `n=2 of 3`, or empty.
        value: The number.
        spread: The number after ±, or half the interval's width; None below two seeds.
        spread_kind: Kind of `spread`: standard deviation, standard error or an interval.
        low: Lower bound of the interval, if any.
        high: Upper bound of the interval, if any.
        n: Number of runs (or pairs) behind the number.
        expected: Number of runs in the ablation.
        p: P-value, Holm-corrected over the family.
        p_raw: P-value without a correction; NaN or None where no test was possible.
        family: Number of comparisons for which p-values or the mark are corrected; 0 without a test.
        test: Test behind the p-value or the mark; empty without a test.
        degrees: Degrees of freedom of the test, if it has any.
        error_seeds: Standard error over seeds, for the fixed test set, of a number over seeds and images.
        error_images: Standard error over test images, for the fixed networks.
        images: Number of test images behind the interval; 0 if it is over seeds alone.
        diverged: Number of diverged runs that the number counts as guessing.
        values: Numbers behind `value`, one per run of `run_ids`; for an effect, one per seed.
        run_ids: Runs behind the number.
        baseline_run_ids: Runs with which the number is compared.
        missing_run_ids: Runs of the ablation that are not done.
        flags: Warnings.
        mark: Rank in the column, or equivalence with the baseline; None if no test shows either.
    """

    text: str | None = None
    count: str = ""
    value: float | int | None = None
    spread: float | None = None
    spread_kind: SpreadKind | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    expected: int = 0
    p: float | None = None
    p_raw: float | None = None
    family: int = 0
    test: str = ""
    degrees: float | None = None
    error_seeds: float | None = None
    error_images: float | None = None
    images: int = 0
    diverged: int = 0
    values: tuple[float, ...] = ()
    run_ids: tuple[str, ...] = ()
    baseline_run_ids: tuple[str, ...] = ()
    missing_run_ids: tuple[str, ...] = ()
    flags: frozenset[Flag] = frozenset()
    mark: Mark | None = None

    @property
    def scope(self) -> str | None:
        """The population that the spread generalises to; None without a spread."""
        return None if self.spread_kind is None else SCOPES.get(self.spread_kind, OVER_SEEDS)

    @property
    def tail(self) -> str:
        """The text after the number: n in brackets, then signs."""
        signs = [sign for mark, sign in MARK_SIGNS.items() if self.mark is mark]
        signs += [sign for flag, sign in SIGNS.items() if flag in self.flags]
        return "".join(f" {part}" for part in ([f"({self.count})"] if self.count else []) + signs)

    @property
    def plain_text(self) -> str:
        """Complete text of the cell, without the marks of rank."""
        return (HOLE if self.text is None else self.text) + self.tail
