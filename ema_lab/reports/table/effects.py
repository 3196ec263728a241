"""Tables of a factorial's effects: contrasts of levels, and one test for each whole factor.

Main effects are one family of tests, interactions another: a reader asks whether each factor matters, and
apart from that whether the factors depend on each other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ema_lab.ablation.grid import ABSENT, format_value, matches, value_of
from ema_lab.measured.selection import Measured, Row, unclean_rows
from ema_lab.reports.naming import short
from ema_lab.reports.table.cells import difference_numbers
from ema_lab.reports.table.comparison import PAIRED_T
from ema_lab.reports.table.notes import flag_notes, has_interval
from ema_lab.reports.table.scope import scope_notes
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm
from ema_lab.statistics.factorial import Effect, effects
from ema_lab.statistics.omnibus import OmnibusTest, omnibus_tests
from ema_lab.tables.cell import Flag, TableCell
from ema_lab.tables.table import Table, TableColumn, TableRow
from ema_lab.tables.text import p_text
from ema_lab.wording import number_of

Key = tuple[str, ...]
BLOCKED_F = "F, seeds as blocks, Greenhouse-Geisser"


@dataclass(frozen=True)
class Families:
    """Numbers of tests for which p-values are corrected: those of the whole ablation, shown or not."""

    main: int
    interaction: int

    def of(self, factors: Sequence[str]) -> int:
        """Return the size of the family of a main effect or an interaction."""
        return self.main if len(factors) == 1 else self.interaction


def effect_tables(
    spec: ReportSpec, title: str, places: Mapping[Key, Row], all_rows: Sequence[Row]
) -> tuple[Table, ...]:
    """Return the contrasts of levels and, where the whole product is there, the tests of whole factors.

    Args:
        spec: The report.
        title: Title of the report.
        places: Rows by the levels of both factors.
        all_rows: All rows of the ablation, for which tests are corrected.

    Raises:
        ValueError: If a combination of levels is missing, or the combinations share no seed.
    """
    estimated = effects({key: row.by_seed(spec.metric) for key, row in places.items()}, spec.factors)
    whole = _whole_product(spec, all_rows)
    contrasts = _contrasts_table(spec, title, estimated, places, all_rows)
    try:
        tests = omnibus_tests({key: row.by_seed(spec.metric) for key, row in whole.items()}, spec.factors)
    except ValueError as error:
        return (replace(contrasts, notes=(*contrasts.notes, f"No factor is tested as a whole: {error}.")),)
    return contrasts, _factors_table(spec, title, tests, whole, _repeats(spec, all_rows))


def _present(spec: ReportSpec, rows: Iterable[Row]) -> list[tuple[Key, Row]]:
    """Return the rows that have both factors, with their levels."""
    keys = [(tuple(value_of(row.cells[0].cell, factor) for factor in spec.factors), row) for row in rows]
    return [
        (tuple(map(format_value, key)), row) for key, row in keys if not any(value is ABSENT for value in key)
    ]


def _repeats(spec: ReportSpec, all_rows: Sequence[Row]) -> int:
    """Return how often other factors repeat the product of both factors in the whole ablation."""
    keys = [key for key, _ in _present(spec, all_rows)]
    return math.ceil(len(keys) / math.prod(len({key[index] for key in keys}) for index in range(2)))


def _contrast_families(spec: ReportSpec, all_rows: Sequence[Row]) -> Families:
    """Return the numbers of contrasts: a product of a x b levels has a + b - 2 and (a - 1) (b - 1)."""
    keys = [key for key, _ in _present(spec, all_rows)]
    down, across = (len({key[index] for key in keys}) for index in range(2))
    repeats = _repeats(spec, all_rows)
    return Families(repeats * (down + across - 2), repeats * (down - 1) * (across - 1))


def _whole_product(spec: ReportSpec, all_rows: Sequence[Row]) -> dict[Key, Row]:
    """Return the rows by level of all levels of the ablation, whatever levels the report shows.

    A factor is tested with all its levels: a report that shows the two most different ones must not change
    its p-value. Conditions of `only` on other keys hold. Rows with equal levels are left out.
    """
    others = {key: value for key, value in spec.only.items() if key not in spec.factors}

    def is_wanted(item: Measured) -> bool:
        values = {key: value if isinstance(value, list) else [value] for key, value in others.items()}
        return all(matches(item.cell, key, value) for key, value in values.items())

    kept = (replace(row, cells=tuple(filter(is_wanted, row.cells))) for row in all_rows)
    by_key: dict[Key, list[Row]] = {}
    for key, row in _present(spec, (row for row in kept if row.cells)):
        by_key.setdefault(key, []).append(row)
    return {key: rows[0] for key, rows in by_key.items() if len(rows) == 1}


def _factors_table(
    spec: ReportSpec, title: str, tests: Sequence[OmnibusTest], rows: Mapping[Key, Row], repeats: int
) -> Table:
    """Return the tests of whole factors, one per row."""
    mains = sum(len(test.factors) == 1 for test in tests)
    families = Families(mains * repeats, (len(tests) - mains) * repeats)
    corrected = _corrected([(test.factors, test.p) for test in tests], families)
    columns = (
        TableColumn("f", "F", "effect", spec.metric),
        TableColumn("df", "Degrees of freedom", "text"),
        TableColumn("p", "p", "p", spec.metric),
    )
    used = list(rows.values())
    body = tuple(
        _factor_row(spec, test, p, families.of(test.factors), used)
        for test, p in zip(tests, corrected, strict=True)
    )
    cells = [cell for row in body for cell in row.cells]
    label = spec.compared_metric.label
    notes = (
        f"F ({label}): mean square of all levels of a factor, or of an interaction, over that of its "
        "interaction with the seeds, which are blocks; two levels give the paired t test. Degrees of freedom "
        "are corrected for unequal noise (Greenhouse-Geisser).",
        f"p: Holm-corrected over {number_of(families.main, 'test')} of factors and, apart from them, "
        f"{families.interaction} of interactions.",
        *scope_notes(cells),
        *flag_notes(cells),
        *(["‡: stale runs are part of these numbers."] if any(row.stale for row in body) else []),
    )
    return Table("factors", f"{title}: factors", "Factor", columns, body, notes)


def _factor_row(spec: ReportSpec, test: OmnibusTest, p: float, family: int, rows: Sequence[Row]) -> TableRow:
    used = [
        replace(row, cells=tuple(item for item in row.cells if item.cell.seed in test.seeds)) for row in rows
    ]
    common = _common_cell(used, rows, test.seeds)
    names = [spec.names.get(factor, short(factor)) for factor in test.factors]
    if math.isnan(test.p):
        untested = replace(common, text="untested", count=test.why)
        cells = (untested, replace(common, text="–"), untested)
    else:
        cells = (
            replace(common, text=f"{test.f:.2f}", value=test.f),
            replace(common, text=", ".join(f"{degrees:.3g}" for degrees in test.degrees)),
            replace(common, text=p_text(p), value=p, p=p, p_raw=test.p, family=family, test=BLOCKED_F),
        )
    return _row(" × ".join(map(short, test.factors)), " × ".join(names), cells, used, common)


def _contrasts_table(
    spec: ReportSpec,
    title: str,
    estimated: Sequence[Effect],
    places: Mapping[Key, Row],
    all_rows: Sequence[Row],
) -> Table:
    """Return main effects and interactions with intervals and corrected p-values, one per row."""
    metric, families = spec.compared_metric, _contrast_families(spec, all_rows)
    mains = sum(len(effect.factors) == 1 for effect in estimated)
    shown = Families(mains, len(estimated) - mains)
    families = Families(max(families.main, shown.main), max(families.interaction, shown.interaction))
    corrected = _corrected([(effect.factors, effect.test.p) for effect in estimated], families)
    columns = (
        TableColumn("effect", f"Effect on {metric.label}", "delta", spec.metric, metric.unit),
        TableColumn("p", "p", "p", spec.metric),
    )
    rows = tuple(
        _effect_row(spec, effect, (p, families.of(effect.factors)), places)
        for effect, p in zip(estimated, corrected, strict=True)
    )
    cells = [cell for row in rows for cell in row.cells]
    interval = " with its 95 % t interval (each by itself)" if has_interval(cells) else ""
    notes = (
        "Effect: a level against the first one of its factor, averaged over the shown levels of the other "
        f"factor within each seed; mean over seeds{interval}. An interaction is a difference of such "
        "differences.",
        "p: paired t test of no effect, Holm-corrected over "
        f"{_counted(shown.main, families.main, 'main effect')} and, apart from them, "
        f"{_counted(shown.interaction, families.interaction, 'interaction')}.",
        *scope_notes(cells),
        *flag_notes(cells),
        *(["‡: stale runs are part of these numbers."] if any(row.stale for row in rows) else []),
    )
    return Table("effects", f"{title}: effects", "Effect", columns, rows, notes)


def _counted(shown: int, family: int, noun: str) -> str:
    tests = number_of(family, noun)
    return tests if shown == family else f"{tests} ({shown} of them shown)"


def _corrected(tests: Sequence[tuple[Sequence[str], float]], families: Families) -> list[float]:
    """Return the p-values, Holm-corrected within the family of main effects and that of interactions."""
    corrected: dict[int, float] = {}
    for is_main in (True, False):
        chosen = [index for index, (factors, _) in enumerate(tests) if (len(factors) == 1) is is_main]
        p_values = [tests[index][1] for index in chosen]
        count = families.main if is_main else families.interaction
        hidden = [math.nan] * (count - len(chosen))  # planned, but not shown here: Holm counts them
        corrected |= dict(zip(chosen, holm([*p_values, *hidden]), strict=False))
    return [corrected[index] for index in range(len(tests))]


def _effect_row(
    spec: ReportSpec, effect: Effect, corrected: tuple[float, int], places: Mapping[Key, Row]
) -> TableRow:
    """Return an effect's row with its runs: those of its levels, in the seeds that all levels have.

    `corrected`: the corrected p-value, and for how many effects it is corrected.
    """
    levels = [{level, reference} for level, reference in zip(effect.levels, effect.references, strict=True)]
    taken = [spec.factors.index(factor) for factor in effect.factors]
    rows = [
        row
        for key, row in places.items()
        if all(key[index] in among for index, among in zip(taken, levels, strict=True))
    ]
    used = [
        replace(row, cells=tuple(item for item in row.cells if item.cell.seed in effect.seeds))
        for row in rows
    ]
    seeds = {item.cell.seed for row in places.values() for item in row.cells}
    common = replace(_common_cell(used, rows, effect.seeds, len(seeds)), values=effect.differences)
    cells = _effect_cells(spec, effect, corrected, common)
    return _row(_effect_name(effect, {}), _effect_name(effect, spec.names), cells, used, common)


def _common_cell(
    used: Sequence[Row], rows: Sequence[Row], seeds: Sequence[object], expected: int = 0
) -> TableCell:
    """Return a cell with the runs and flags of several rows in their common seeds."""
    expected = expected or len({item.cell.seed for row in rows for item in row.cells})
    flags = {
        Flag.STALE: any(row.stale for row in used),
        Flag.UNCLEAN: any(unclean_rows(used)),
        Flag.SINGLE_SEED: len(seeds) == 1,
        Flag.MISSING: len(seeds) < expected,
    }
    return TableCell(
        n=len(seeds),
        expected=expected,
        run_ids=tuple(dict.fromkeys(run_id for row in used for run_id in row.run_ids)),
        missing_run_ids=tuple(item.cell.run_id for row in rows for item in row.cells if item.record is None),
        flags=frozenset(flag for flag, applies in flags.items() if applies),
    )


def _row(
    key: str, name: str, cells: tuple[TableCell, ...], used: Sequence[Row], common: TableCell
) -> TableRow:
    return TableRow(
        key,
        name,
        cells,
        seeds=common.expected,
        n=common.n,
        stale=tuple(dict.fromkeys(part for row in used for part in row.stale)),
        run_ids=common.run_ids,
    )


def _effect_name(effect: Effect, names: Mapping[str, str]) -> str:
    parts = [
        f"{names.get(factor, short(factor))} {names.get(level, level)} vs {names.get(reference, reference)}"
        for factor, level, reference in zip(effect.factors, effect.levels, effect.references, strict=True)
    ]
    return " × ".join(parts)


def _effect_cells(
    spec: ReportSpec, effect: Effect, corrected: tuple[float, int], common: TableCell
) -> tuple[TableCell, TableCell]:
    p, family = corrected
    count = f"n={common.n}" + (f" of {common.expected}" if common.n < common.expected else "")
    first = replace(common, **difference_numbers(effect.difference, spec.digits), count=count)
    if math.isnan(p):
        return first, replace(common, text="untested", count=effect.test.why)
    second = replace(common, text=p_text(p), value=p, p=p, p_raw=effect.test.p, family=family)
    return first, replace(second, test=PAIRED_T, degrees=effect.test.count - 1)
