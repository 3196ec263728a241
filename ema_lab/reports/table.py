"""A table in four pure steps: numbers, summary, cells, text. This file makes the cells."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.errors import SpecError
from ema_lab.experiments.ablation import Ablation
from ema_lab.registry import unknown_name
from ema_lab.reports.selection import Row
from ema_lab.reports.statistics import PairedDifference, Summary, paired_difference, summarise
from ema_lab.specs.metric import METRICS
from ema_lab.specs.report import Column, ReportSpec

FLAG = "†"
STALE = "‡"


@dataclass(frozen=True)
class Table:
    """Text cells, ready to render. A cell that has no run is None, never a number."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ValueError(f"row {number} has {len(row)} cells, not {len(self.header)}")


def format_summary(summary: Summary, expected: int, digits: int) -> str:
    """Return `98.15 ± 0.49 (n=3)`; a single seed has no ±, missing seeds are named."""
    count = f"n={summary.count}" + (f" of {expected}" if summary.count < expected else "")
    if math.isnan(summary.std):
        return f"{summary.mean:.{digits}f} ({count})"
    return f"{summary.mean:.{digits}f} ± {summary.std:.{digits}f} ({count})"


def format_difference(difference: PairedDifference, expected: int, digits: int) -> str:
    """Return `+0.28 [-0.54, +1.10]`; a single pair has no interval, missing pairs are named."""
    missing = f"n={difference.count}" + (f" of {expected}" if difference.count < expected else "")
    if math.isnan(difference.low):
        return f"{difference.mean:+.{digits}f} ({missing})"
    interval = f"[{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
    count = f" ({missing})" if difference.count < expected else ""
    return f"{difference.mean:+.{digits}f} {interval}{count}"


def build_table(spec: ReportSpec, ablation: Ablation, rows: Sequence[Row]) -> Table:
    """Turn rows of runs into cells of text, with a caption that says what each ± and Δ is.

    Raises:
        SpecError: If the report asks for what the ablation does not have.
    """
    _check(spec, ablation)
    header = ("Variant", *(_header(column, spec, ablation) for column in spec.columns))
    cells = tuple(
        (spec.names.get(row.name, row.name), *(_cell(column, spec, row) for column in spec.columns))
        for row in rows
    )
    return Table(spec.title or ablation.name, header, cells, tuple(_notes(spec, ablation, rows)))


def _check(spec: ReportSpec, ablation: Ablation) -> None:
    if "delta" in spec.columns and ablation.baseline is None:
        rule = f"the column 'delta' needs a baseline, and the ablation {ablation.name} names none"
        raise SpecError(f"report {spec.name}: {rule}")
    known = list(dict.fromkeys([*ablation.rows(), *(cell.row for cell in ablation.skipped)]))
    for name in spec.names:
        if name not in known:
            raise SpecError(f"report {spec.name}: names: {unknown_name('row', name, known)}")


def _header(column: Column, spec: ReportSpec, ablation: Ablation) -> str:
    if column in METRICS:
        return f"{METRICS[column].label} ({METRICS[column].unit})"
    if column == "delta":
        return f"Δ {METRICS[spec.metric].label} vs {ablation.baseline}"
    return {"parameters": "Parameters", "macs": "MACs (M)"}[column]


def _cell(column: Column, spec: ReportSpec, row: Row) -> str | None:
    """Return a cell's text, marked where a stale run is part of its number."""
    text = _value(column, spec, row)
    if text is None or (column == "delta" and row.is_baseline):
        return text
    is_stale = any(item.stale or (column == "delta" and item.stale_baseline) for item in row.cells)
    return f"{text} {STALE}" if is_stale else text


def _value(column: Column, spec: ReportSpec, row: Row) -> str | None:
    if column == "delta":
        if row.is_baseline:
            return "baseline"
        differences = row.differences(spec.metric)
        if not differences:
            return None
        flag = "" if all(item.clean_pair for item in row.cells) else f" {FLAG}"
        return format_difference(paired_difference(differences), len(row.cells), spec.digits) + flag
    if column in METRICS:
        values = row.values(column)
        return format_summary(summarise(values), len(row.cells), spec.digits) if values else None
    count = row.cost(column)
    if count is None:
        return None
    return f"{count:,}" if column == "parameters" else f"{count / 1e6:,.2f}"


def _notes(spec: ReportSpec, ablation: Ablation, rows: Sequence[Row]) -> list[str]:
    shown: Mapping[str, Callable[[], bool]] = {
        "Mean ± sample standard deviation over n seeds.": lambda: any(c in METRICS for c in spec.columns),
        f"Δ: mean paired difference to {ablation.baseline!r} over common seeds with its 95 % t interval.": (
            lambda: "delta" in spec.columns
        ),
        "MACs: multiply-adds for one image as fvcore counts them (convolutions, linear layers, matrix "
        "products, normalisations); one multiply-add is one.": lambda: "macs" in spec.columns,
        f"{FLAG}: not a clean pair: device, precision, threads or versions differ from the baseline's.": (
            lambda: "delta" in spec.columns and any(not c.clean_pair for row in rows for c in row.cells)
        ),
    }
    notes = [note for note, applies in shown.items() if applies()]
    notes += _stale_notes(ablation, rows)
    notes += _protocol_notes(rows)
    reasons = Counter(cell.reason for cell in ablation.skipped)
    notes += [f"{count} cells are left out: {reason}." for reason, count in reasons.items()]
    missing = [item for row in rows for item in row.cells if item.record is None]
    if missing:
        total = sum(len(row.cells) for row in rows)
        notes.append(
            f"{len(missing)} of {total} runs are not there: failed or not run yet (n/a or n < seeds)."
        )
    return notes


def _stale_notes(ablation: Ablation, rows: Sequence[Row]) -> list[str]:
    stale = sum(bool(item.stale) for row in rows for item in row.cells)
    if not stale:
        return []
    parts = ", ".join(dict.fromkeys(part for row in rows for part in row.stale))
    count = "1 run is stale" if stale == 1 else f"{stale} runs are stale"
    words = f"the source of {parts} has changed since; ema-lab run {ablation.name} --refresh trains again"
    return [f"{STALE}: {count}: {words}."]


def _protocol_notes(rows: Sequence[Row]) -> list[str]:
    cells = [item.cell for row in rows for item in row.cells]
    said = {
        "last": "Test split, last epoch",
        "best-val": "Test split, epoch chosen on the validation split",
        "best-test": "BEST TEST EPOCH: test data chose the epoch, so the numbers are too high",
    }
    protocols = sorted({cell.spec.recipe.protocol for cell in cells})
    data = sorted({cell.spec.data.name for cell in cells})
    return [f"{said[protocol]} ({', '.join(data)})." for protocol in protocols]


def table_records(spec: ReportSpec, ablation: Ablation, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat object per row, unrounded, with its run ids: for CSV and JSON."""
    return [_flat(spec, row) for row in rows]


def _flat(spec: ReportSpec, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {"variant": row.name, "seeds": len(row.cells), "n": len(row.records)}
    for column in spec.columns:
        if column in METRICS:
            found = row.values(column)
            summary = summarise(found) if found else None
            values[column] = summary.mean if summary else None
            values[f"{column}_std"] = None if summary is None or math.isnan(summary.std) else summary.std
        elif column == "delta":
            differences = row.differences(spec.metric)
            paired = paired_difference(differences) if differences and not row.is_baseline else None
            has_interval = paired is not None and not math.isnan(paired.low)
            values["delta"] = paired.mean if paired else None
            values["delta_low"] = paired.low if paired and has_interval else None
            values["delta_high"] = paired.high if paired and has_interval else None
            values["delta_n"] = paired.count if paired else 0
        else:
            values[column] = row.cost(column)
    return values | {"stale": " ".join(row.stale) or None, "run_ids": " ".join(row.run_ids)}
