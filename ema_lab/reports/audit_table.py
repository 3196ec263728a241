"""The tables of an audit: one per table of the paper, a line per published number."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ema_lab.reports.audit import Finding
from ema_lab.reports.selection import Row
from ema_lab.reports.table import STALE, Table
from ema_lab.reports.verdict import Kind, Trained
from ema_lab.specs.published import PublishedSpec, TableSpec

HEADER = ("Row", "Quantity", "Claimed", "Computed", "Trained", "Verdict")
LABELS = {
    "parameters": "Parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "top1": "Top-1 (%)",
    "top5": "Top-5 (%)",
    "map50": "mAP.5 (%)",
    "map50_95": "mAP.5:.95 (%)",
}
PROTOCOLS = {
    "last": "last epoch",
    "best-val": "epoch chosen on the validation split",
    "best-test": "BEST TEST EPOCH",
}


def audit_tables(
    published: PublishedSpec, findings: Sequence[Finding], runs: dict[tuple[str, str], Row]
) -> list[Table]:
    """Return a table for each of the paper's, with its caveats as footnotes."""
    tables = []
    for key, table in published.tables.items():
        mine = [finding for finding in findings if finding.table == key]
        if not mine:
            continue
        numbers = _footnote_numbers(table)
        rows = tuple(_line(finding, table, numbers) for finding in mine)
        notes = _notes(table, mine, [row for place, row in runs.items() if place[0] == key])
        footnotes = tuple(f"[{number}] {published.caveats[name]}" for name, number in numbers.items())
        title = f"{table.title}: published numbers{_marks(table.caveats, numbers)}"
        tables.append(Table(title, HEADER, rows, (*notes, *footnotes)))
    return tables


def summary_words(findings: Iterable[Finding]) -> str:
    """Return how many findings there are of each kind."""
    counts = Counter(finding.verdict.kind for finding in findings)
    words = ", ".join(f"{kind} {counts[kind]}" for kind in Kind if counts[kind])
    return f"{counts.total()} published numbers: {words}"


def _footnote_numbers(table: TableSpec) -> dict[str, int]:
    names = [*table.caveats, *(name for row in table.rows.values() for name in row.caveats)]
    return {name: number for number, name in enumerate(dict.fromkeys(names), 1)}


def _marks(caveats: Sequence[str], numbers: dict[str, int]) -> str:
    return f" [{', '.join(str(numbers[name]) for name in caveats)}]" if caveats else ""


def _line(finding: Finding, table: TableSpec, numbers: dict[str, int]) -> tuple[str | None, ...]:
    marks = _marks(table.rows[finding.row].caveats, numbers)
    computed = None
    if finding.computed is not None:
        computed = finding.claimed.like(finding.computed, 2 if finding.claimed.suffix else 0)
    trained = _trained_text(finding.trained, finding.claimed.decimals) if finding.trained else None
    if trained and finding.stale:
        trained = f"{trained} {STALE}"
    return (
        f"{finding.row}{marks}",
        LABELS[finding.quantity],
        finding.claimed.text,
        computed,
        trained,
        str(finding.verdict),
    )


def _trained_text(trained: Trained, decimals: int) -> str:
    missing = f" of {trained.expected}" if trained.count < trained.expected else ""
    interval = ""
    if trained.count > 1:
        interval = f" [{trained.low:.{decimals}f}, {trained.high:.{decimals}f}]"
    return f"{trained.mean:.{decimals}f}{interval} (n={trained.count}{missing})"


def _notes(table: TableSpec, findings: Sequence[Finding], rows: Sequence[Row]) -> list[str]:
    notes = [f"{summary_words(findings)}.", f"Setting of the paper: {table.setting}."]
    counted = {
        f.quantity: f"{LABELS[f.quantity]}: {f.convention.words(f.claimed)}" for f in findings if f.convention
    }
    if counted:
        notes.append(f"Computed as: {'; '.join(counted.values())}; what else is tried differs in one respect.")
    if any(finding.trained for finding in findings):
        protocols = sorted({PROTOCOLS[item.cell.spec.recipe.protocol] for row in rows for item in row.cells})
        kind = f"test split, {' or '.join(protocols)}"
        notes.append(
            f"Trained: mean of n seeds [95 % t interval]; {kind}; relevant difference {table.relevant:g}."
        )
    if any(finding.stale for finding in findings):
        notes.append(f"{STALE}: the source has changed since these runs.")
    return notes
