"""Tables of an audit: one per table of the paper, one line per published number."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ema_lab.audit.audit import Finding
from ema_lab.audit.verdict import Kind, Trained
from ema_lab.measured.selection import Row
from ema_lab.specs.published import PublishedSpec, TableSpec
from ema_lab.specs.task import task_description
from ema_lab.tables.cell import SIGNS, Flag, TableCell
from ema_lab.tables.table import Table, TableColumn, TableRow
from ema_lab.wording import number_of

LABELS = {
    "parameters": "Parameters",
    "macs": "MACs",
    "flops": "FLOPs",
}
PROTOCOLS = {
    "last": "last epoch",
    "best-val": "epoch chosen on the validation split",
    "best-test": "BEST TEST EPOCH",
}


def audit_tables(
    published: PublishedSpec, findings: Sequence[Finding], runs: Mapping[tuple[str, str], Row]
) -> list[Table]:
    """Return one table per table of the paper, with the caveats as footnotes."""
    by_table = [(key, [f for f in findings if f.table == key]) for key in published.tables]
    return [_table(published, key, mine, runs) for key, mine in by_table if mine]


def _table(
    published: PublishedSpec, key: str, findings: Sequence[Finding], runs: Mapping[tuple[str, str], Row]
) -> Table:
    table = published.tables[key]
    caveats = [name for row in table.rows.values() for name in row.caveats]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(caveats), 1)}
    names = ["claimed", "computed", "trained", "verdict"]
    if not any(finding.trained for finding in findings):
        names.remove("trained")
    columns = tuple(TableColumn(name, name.capitalize(), "text") for name in names)
    rows = [_row(finding, names, _label(table, finding.quantity)) for finding in findings]
    first_lines = {finding.row: index for index, finding in reversed(list(enumerate(findings)))}
    for name, index in first_lines.items():  # only the first line of a row carries its footnotes
        footnotes = tuple(numbers[caveat] for caveat in table.rows[name].caveats)
        rows[index] = replace(rows[index], footnotes=footnotes)
    notes = _notes(table, findings, [row for (table_key, _), row in runs.items() if table_key == key])
    return Table(
        key,
        f"{published.title}: {table.title}",
        "Quantity",
        columns,
        tuple(rows),
        (*notes, *(published.caveats[name] for name in table.caveats)),
        "Row",
        tuple(published.caveats[name] for name in numbers),
    )


def summary_line(findings: Iterable[Finding]) -> str:
    """Return the number of findings per kind, as one line of text."""
    counts = Counter(finding.verdict.kind for finding in findings)
    kinds = ", ".join(f"{kind} {counts[kind]}" for kind in Kind if counts[kind])
    return f"{number_of(counts.total(), 'published number')}: {kinds}"


def _label(table: TableSpec, quantity: str) -> str:
    return LABELS[quantity] if quantity in LABELS else task_description(table.task).metrics[quantity].header


def _row(finding: Finding, names: Sequence[str], label: str) -> TableRow:
    computed = None
    if finding.computed is not None:
        units = finding.convention.units if finding.convention else "decimal"
        digits = 2 if finding.claimed.suffix else 0
        computed = finding.claimed.format_like(finding.computed, digits, units)
    cells = {
        "claimed": TableCell(finding.claimed.text),
        "computed": TableCell(computed),
        "trained": _trained_cell(finding) if finding.trained else TableCell(),
        "verdict": TableCell(str(finding.verdict)),
    }
    selected = tuple(cells[name] for name in names)
    return TableRow(
        finding.quantity, label, selected, finding.row, stale=finding.stale, run_ids=finding.run_ids
    )


def _trained_cell(finding: Finding) -> TableCell:
    trained, digits = finding.trained, finding.claimed.decimals
    assert trained
    low, high = trained.replication.interval
    several = trained.replication.is_testable
    interval = f" [{low:.{digits}f}, {high:.{digits}f}]" if several else ""
    missing = f" of {trained.expected}" if trained.count < trained.expected else ""
    return TableCell(
        f"{trained.mean:.{digits}f}{interval}",
        f"n={trained.count}{missing}",
        value=trained.mean,
        low=low if several else None,
        high=high if several else None,
        n=trained.count,
        expected=trained.expected,
        run_ids=finding.run_ids,
        flags=frozenset({Flag.STALE}) if finding.stale else frozenset(),
    )


def _notes(table: TableSpec, findings: Sequence[Finding], rows: Sequence[Row]) -> list[str]:
    notes = [f"{summary_line(findings)}.", f"Setting of the paper: {table.setting}."]
    counted = {
        f.quantity: f"{LABELS[f.quantity]}: {f.convention.describe(f.claimed)}"
        for f in findings
        if f.convention
    }
    if counted:
        notes.append(
            f"Computed as: {'; '.join(counted.values())}; what else is tried differs in one respect."
        )
    trained = [finding.trained for finding in findings if finding.trained]
    if trained:
        recipes = [item.cell.spec.recipe for row in rows for item in row.cells]
        ours = sorted(
            {f"{number_of(recipe.epochs, 'epoch')}, {PROTOCOLS[recipe.protocol]}" for recipe in recipes}
        )
        notes.append(
            f"Trained: mean of n seeds by our own recipe ({'; '.join(ours)}), test split [95 % prediction "
            f"interval of a published number, which counts as {_claim_means(trained)}]; relevant difference "
            f"{number_of(table.relevant, 'point')}."
        )
        notes.append(
            "Verdicts on trained numbers: t tests of a difference, and two one-sided t tests of agreement, "
            f"each Holm-corrected over {number_of(trained[0].family, 'trained number')} of the file, 5 %."
        )
    if any(finding.stale for finding in findings):
        notes.append(f"{SIGNS[Flag.STALE]}: the source has changed since these runs.")
    return notes


def _claim_means(trained: Sequence[Trained]) -> str:
    """Return the sentence on the number of seeds behind the published means: the file's key `seeds`."""
    counts = sorted({each.replication.earlier_seeds for each in trained})
    seeds = " or ".join(map(str, counts))
    return f"the mean of {seeds} seed{'' if counts == [1] else 's'} (`seeds` of the file)"
