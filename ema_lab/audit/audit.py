"""Published numbers against computed costs and trained runs: one finding per number."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ema_lab.audit.convention import Convention, Costs, conventions, support
from ema_lab.audit.verdict import (
    Counted,
    Trained,
    Verdict,
    count_verdict,
    trained_summary,
    trained_verdict,
)
from ema_lab.results.selection import Row
from ema_lab.specs.published import PublishedSpec, RowSpec, TableSpec
from ema_lab.specs.published_number import PublishedNumber

COUNTS = ("parameters", "macs", "flops")
Key = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """One published number, what we have of it, and the verdict.

    `computed` is under the table's assumed convention; `stale` are the parts of the source that have
    changed since the runs.
    """

    table: str
    row: str
    quantity: str
    claimed: PublishedNumber
    verdict: Verdict
    convention: Convention | None = None
    computed: Decimal | None = None
    trained: Trained | None = None
    run_ids: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What the published numbers are compared with, by (table, row): costs, and the rows of ablations."""

    costs: Mapping[Key, Costs]
    runs: Mapping[Key, Row]


def audit(published: PublishedSpec, evidence: Evidence) -> list[Finding]:
    """Compare every published number, in the order of the file."""
    return [
        finding
        for key, table in published.tables.items()
        for finding in _table_findings(key, table, evidence)
    ]


def _table_findings(key: str, table: TableSpec, evidence: Evidence) -> Iterator[Finding]:
    columns = {quantity: _Column(key, table, quantity, evidence.costs) for quantity in COUNTS}
    for name, row in table.rows.items():
        for quantity, printed in row.claims.numbers.items():
            if quantity in columns:
                yield columns[quantity].finding(name, row, printed)
            else:
                yield _trained_finding(key, table, name, quantity, printed, evidence.runs.get((key, name)))


class _Column:
    """The claims of one counted quantity in one table, and the conventions that fit them."""

    def __init__(self, key: str, table: TableSpec, quantity: str, costs: Mapping[Key, Costs]) -> None:
        self.key, self.table, self.quantity = key, table, quantity
        self.tried = conventions(quantity, table.convention)
        self.counted = {
            name: Counted(row.claims.numbers[quantity], costs[key, name])
            for name, row in table.rows.items()
            if quantity in row.claims.numbers and (key, name) in costs
        }
        self.support = support(((item.printed, item.costs) for item in self.counted.values()), self.tried)

    def finding(self, name: str, row: RowSpec, printed: PublishedNumber) -> Finding:
        counted = self.counted.get(name, Counted(printed, {}))
        other = row.baseline or self.table.baseline
        baseline = (other, self.counted[other]) if other in self.counted and other != name else None
        verdict = count_verdict(counted, self.tried, self.support, baseline)
        usual = self.tried[0]
        computed = usual.number(counted.costs)
        return Finding(self.key, name, self.quantity, printed, verdict, usual, computed)


def _trained_finding(
    key: str, table: TableSpec, name: str, quantity: str, printed: PublishedNumber, row: Row | None
) -> Finding:
    values = row.values(quantity) if row else []
    if row is None or not values:
        return Finding(key, name, quantity, printed, trained_verdict(printed, None, table.relevant))
    trained = trained_summary(values, len(row.cells))
    verdict = trained_verdict(printed, trained, table.relevant)
    run_ids = tuple(record.run_id for record in row.records)
    stale = tuple(row.stale)
    return Finding(key, name, quantity, printed, verdict, trained=trained, run_ids=run_ids, stale=stale)


def audit_records(published: PublishedSpec, findings: list[Finding]) -> list[dict[str, Any]]:
    """Return one flat object per finding, unrounded: for CSV and JSON."""
    return [_flat(published, finding) for finding in findings]


def _flat(published: PublishedSpec, finding: Finding) -> dict[str, Any]:
    table = published.tables[finding.table]
    row = table.rows[finding.row]
    trained = finding.trained
    several = trained is not None and trained.count > 1
    return {
        "table": finding.table,
        "row": finding.row,
        "quantity": finding.quantity,
        "claimed": finding.claimed.text,
        "computed": None if finding.computed is None else int(finding.computed),
        "convention": finding.convention.words(finding.claimed) if finding.convention else None,
        "trained": trained.mean if trained else None,
        "trained_low": trained.low if trained and several else None,
        "trained_high": trained.high if trained and several else None,
        "detectable": trained.detectable if trained and several else None,
        "n": trained.count if trained else 0,
        "verdict": str(finding.verdict.kind),
        "reason": finding.verdict.reason or None,
        "difference": finding.verdict.difference,
        "relative": finding.verdict.relative,
        "setting": row.setting or table.setting,
        "source": row.source or table.source or published.source,
        "caveats": " ".join([*table.caveats, *row.caveats]) or None,
        "stale": " ".join(finding.stale) or None,
        "run_ids": " ".join(finding.run_ids) or None,
    }
