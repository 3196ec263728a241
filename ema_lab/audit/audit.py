"""Audit of published numbers against computed costs and trained runs, one finding per number."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ema_lab.audit.convention import Convention, Costs, conventions, support
from ema_lab.audit.verdict import (
    Counted,
    Trained,
    Verdict,
    corrected_together,
    count_verdict,
    trained_beside,
    trained_verdict,
)
from ema_lab.measured.selection import Row
from ema_lab.specs.published import PublishedSpec, RowSpec, TableSpec
from ema_lab.specs.published_number import PublishedNumber

COUNTS = ("parameters", "macs", "flops")
Key = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """Published number with its evidence and verdict.

    Attributes:
        table: Key of the table in the file.
        row: Name of the row in the table.
        quantity: Counted quantity or metric.
        claimed: The published number.
        verdict: The verdict.
        convention: Counting convention that the table is assumed to follow.
        computed: Our count under that convention.
        trained: The trained seeds beside the claim, with their tests.
        run_ids: The trained runs.
        stale: Parts whose source has changed since these runs.
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
    """Evidence by (table, row): computed costs, and ablation rows with trained runs."""

    costs: Mapping[Key, Costs]
    runs: Mapping[Key, Row]


def audit(published: PublishedSpec, evidence: Evidence) -> list[Finding]:
    """Compare every published number, in the order of the file; one correction holds for the whole file."""
    findings = [
        finding
        for key, table in published.tables.items()
        for finding in _table_findings(key, table, evidence)
    ]
    corrected = iter(corrected_together([one.trained for one in findings if one.trained is not None]))
    return [
        finding if finding.trained is None else _judged(published, finding, next(corrected))
        for finding in findings
    ]


def _judged(published: PublishedSpec, finding: Finding, trained: Trained) -> Finding:
    relevant = published.tables[finding.table].relevant
    verdict = trained_verdict(finding.claimed, trained, relevant)
    return replace(finding, trained=trained, verdict=verdict)


def _table_findings(key: str, table: TableSpec, evidence: Evidence) -> Iterator[Finding]:
    columns = {quantity: _Column(key, table, quantity, evidence.costs) for quantity in COUNTS}
    for name, row in table.rows.items():
        for quantity, claim in row.claims.numbers.items():
            if quantity in columns:
                yield columns[quantity].finding(name, row, claim)
            else:
                yield _trained_finding(key, table, name, quantity, claim, evidence.runs.get((key, name)))


class _Column:
    """Claims of one counted quantity in one table, and the conventions that fit them."""

    def __init__(self, key: str, table: TableSpec, quantity: str, costs: Mapping[Key, Costs]) -> None:
        self.key, self.table, self.quantity = key, table, quantity
        self.tried = conventions(quantity, table.convention)
        self.counted = {
            name: Counted(row.claims.numbers[quantity], costs[key, name])
            for name, row in table.rows.items()
            if quantity in row.claims.numbers and (key, name) in costs
        }
        self.support = support(((item.claim, item.costs) for item in self.counted.values()), self.tried)

    def finding(self, name: str, row: RowSpec, claim: PublishedNumber) -> Finding:
        counted = self.counted.get(name, Counted(claim, {}))
        reference = row.baseline or self.table.baseline
        has_baseline = reference in self.counted and reference != name
        baseline = (reference, self.counted[reference]) if reference and has_baseline else None
        verdict = count_verdict(counted, self.tried, self.support, baseline)
        assumed = self.tried[0]
        computed = assumed.number(counted.costs)
        return Finding(self.key, name, self.quantity, claim, verdict, assumed, computed)


def _trained_finding(
    key: str, table: TableSpec, name: str, quantity: str, claim: PublishedNumber, row: Row | None
) -> Finding:
    values = row.values(quantity) if row else []
    verdict = trained_verdict(claim, None, table.relevant)  # until all tests of the file are known
    if row is None or not values:
        return Finding(key, name, quantity, claim, verdict)
    seeds = table.rows[name].seeds or table.seeds
    trained = trained_beside(claim, values, len(row.cells), claim_seeds=seeds, relevant=table.relevant)
    run_ids = tuple(record.run_id for record in row.records)
    stale = tuple(row.stale)
    return Finding(key, name, quantity, claim, verdict, trained=trained, run_ids=run_ids, stale=stale)


def audit_records(published: PublishedSpec, findings: list[Finding]) -> list[dict[str, Any]]:
    """Return one flat object per finding with unrounded numbers, for CSV and JSON."""
    return [_flat(published, finding) for finding in findings]


def _flat(published: PublishedSpec, finding: Finding) -> dict[str, Any]:
    table = published.tables[finding.table]
    row = table.rows[finding.row]
    trained = finding.trained
    low, high = trained.replication.interval if trained else (None, None)
    return {
        "table": finding.table,
        "row": finding.row,
        "quantity": finding.quantity,
        "claimed": finding.claimed.text,
        "computed": None if finding.computed is None else int(finding.computed),
        "convention": finding.convention.describe(finding.claimed) if finding.convention else None,
        "trained": trained.mean if trained else None,
        "trained_low": _number(low),
        "trained_high": _number(high),
        "n": trained.count if trained else 0,
        "claim_seeds": trained.replication.earlier_seeds if trained else None,
        "p_difference_raw": _number(trained.difference_p) if trained else None,
        "p_difference": _number(trained.corrected_difference_p) if trained else None,
        "p_agreement_raw": _number(trained.agreement_p) if trained else None,
        "p_agreement": _number(trained.corrected_agreement_p) if trained else None,
        "degrees_of_freedom": trained.count - 1 if trained and trained.replication.is_testable else None,
        "family": trained.family if trained and trained.replication.is_testable else None,
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


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
