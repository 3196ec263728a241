"""What the page knows besides the tables: the runs behind them, what is missing, what reproduces them."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import StoreError
from ema_lab.reports.figures.numbers import mean_interval
from ema_lab.reports.figures.style import look, looks_of
from ema_lab.reports.report import with_task
from ema_lab.reports.row_order import modules_of, row_labels
from ema_lab.results.selection import Measured, Row, rows_of
from ema_lab.specs.metric import COSTS
from ema_lab.specs.report import ReportSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.layout import LOG
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore
from ema_lab.store.survey import Standing, Survey
from ema_lab.tables.table import Table

LOG_LINES = 40  # the end of a log, which says why a run failed
DONE_LOG_LINES = 10
LOG_BYTES = 1 << 16  # what is read of a log, from its end
MOST_CURVES = 2000  # of more runs, the page would be too large to open with all curves, logs and attempts
LEFT_OUT = ("train_seconds",)  # of a curve: times differ from machine to machine
Shown = Sequence[tuple[Ablation, Sequence[Row]]]


def page_data(spec: ReportSpec, shown: Shown, tables: Iterable[Table], store: RunStore) -> dict[str, Any]:
    """Return plain data: the runs of a report by id, and the commands that make the report again.

    Rows of several ablations keep the ablation's name before theirs. Nothing depends on the time or the
    machine that it is called on, so that equal records give equal pages.

    Args:
        spec: Of the report.
        shown: What `report_rows` returns.
        tables: Of the report: each run that a cell names is there, of rows that are not shown too.
        store: Where the runs are.
    """
    spec = with_task(spec, (ablation for ablation, _ in shown))
    prefixes = {ablation.name: f"{ablation.name}: " if len(shown) > 1 else "" for ablation, _ in shown}
    others = _others(shown, tables)
    cells = _cells([*shown, *others], prefixes)
    survey = Survey(store)
    is_whole = len(cells) <= MOST_CURVES
    runs = {
        run_id: {"variants": names} | run_data(cell, survey.standing(cell.spec), store, is_whole)
        for run_id, (names, cell) in cells.items()
    }
    columns = dict.fromkeys(column for run in runs.values() for column in run["curve"] or ())
    return {
        "name": spec.name,
        "title": spec.title or spec.name,
        "ablations": [ablation.name for ablation, _ in shown],
        "metrics": {
            key: {"label": m.label, "unit": m.unit, "sign": m.sign} for key, m in spec.task.metrics.items()
        },
        "primary": spec.task.primary,
        "costs": {key: cost.label for key, cost in COSTS.items()},
        "columns": {column: spec.task.curve_label(column) for column in columns},
        "rows": _rows(spec, shown, prefixes),
        "others": _rows(spec, others, prefixes),
        "commands": commands(spec.name, [ablation for ablation, _ in shown]),
        "left_out": None if is_whole else f"more than {MOST_CURVES} runs",
        "runs": runs,
    }


def _others(shown: Shown, tables: Iterable[Table]) -> Shown:
    """Return the rows that are not shown, but whose runs cells name: baselines, or levels of effects."""
    found = [cell for table in tables for row in table.rows for cell in row.cells]
    named = {
        run_id for cell in found for run_id in (*cell.run_ids, *cell.missing_run_ids, *cell.baseline_run_ids)
    }
    named -= {run_id for _, rows in shown for row in rows for run_id in row.run_ids}
    return [
        (one, rows_of(one, [Measured(cell, None, None) for cell in one.cells if cell.run_id in named]))
        for one, _ in shown
    ]


def _cells(shown: Shown, prefixes: Mapping[str, str]) -> dict[str, tuple[list[str], Cell]]:
    """Return each run's rows and its cell; cells of equal specs are one run, which is of several rows."""
    found: dict[str, tuple[list[str], Cell]] = {}
    for ablation, rows in shown:
        for row in rows:
            for item in row.cells:
                names, _ = found.setdefault(item.cell.run_id, ([], item.cell))
                names.append(prefixes[ablation.name] + row.name)
    return found


def _rows(spec: ReportSpec, shown: Shown, prefixes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each row's name in print, look and means, those of the tables and figures, in their order."""
    own_looks = looks_of(modules_of(*shown[0])) if len(shown) == 1 else {}
    found: list[dict[str, Any]] = []
    for ablation, rows in shown:
        prefix, labels = prefixes[ablation.name], row_labels(spec, rows)
        for row in rows:  # a module of several ablations has several looks: its rows must be told apart
            found.append(
                {
                    "row": prefix + row.name,
                    "label": prefix + labels[row.name],
                    "means": _means(spec, row),
                    **asdict(own_looks.get(row.name) or look(len(found))),
                }
            )
    return found


def _means(spec: ReportSpec, row: Row) -> dict[str, dict[str, float | None]]:
    """Return the mean of each metric over seeds and its interval, None without one, as figures draw them."""
    means = {}
    for key in spec.task.metrics:
        if values := row.values(key):
            found = mean_interval(values, decided=spec.seeds == "decided")
            low, high = (found.low, found.high) if found.has_interval else (None, None)
            means[key] = {"mean": found.mean, "low": low, "high": high, "n": found.count}
    return means


def commands(name: str, ablations: Iterable[Ablation]) -> list[str]:
    """Return what trains the runs and writes the report, as one would type it."""
    return [
        *(f"ema-lab run {ablation.name}" for ablation in ablations),
        f"ema-lab report {name} --out {name}",
    ]


def run_data(cell: Cell, standing: Standing, store: RunStore, is_whole: bool) -> dict[str, Any]:
    """Return what is known of one run; `is_whole`: also the curve, and of a finished run log and attempts."""
    facts, is_done = standing.facts, standing.state == "done"
    record = facts.record if facts.done else None
    attempts = _attempts(store, cell.run_id) if is_done and is_whole else facts.attempts
    tried = attempts[:-1] if standing.state == "running" else attempts
    lines = LOG_LINES if standing.failure else DONE_LOG_LINES if is_done and is_whole else 0
    return {
        "seed": cell.seed,
        "status": standing.state,
        "failures": sum(attempt.outcome in {"failed", None} for attempt in tried),
        "stale": list(standing.stale),
        "spec": cell.spec.resolved(),
        "metrics": _finite(record.metrics) if record else {},
        "chosen_epoch": record.chosen_epoch if record else None,
        "cost": _finite({k: v for k, v in record.cost.items() if isinstance(v, int | float)})
        if record
        else {},
        "wall_seconds": record.wall_seconds if record else None,
        "environment": dict(record.environment) if record else {},
        "data_sha256": record.data_sha256 if record else None,
        "attempts": [attempt.model_dump(mode="json", exclude={"source"}) for attempt in attempts],
        "why": standing.reason,
        "heartbeat": standing.heartbeat.epoch if standing.heartbeat else None,
        "curve": _curve(store, cell.run_id) if is_whole and standing.state != "pending" else None,
        "log": _log(store, cell.run_id, lines) if lines else None,
    }


def _attempts(store: RunStore, run_id: str) -> Sequence[Attempt]:
    """Return the tries at a finished run; a damaged file costs their mention, not the page."""
    try:
        return store.attempts(run_id)
    except StoreError:
        return ()


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _curve(store: RunStore, run_id: str) -> dict[str, list[float | None]] | None:
    """Return the columns of a run's curve, to five digits: enough to draw."""
    rows = read_curve(store.folder(run_id))
    kept = [name for name in (rows[0] if rows else ()) if name not in LEFT_OUT]
    return {name: [_number(row.get(name)) for row in rows] for name in kept} or None


def _number(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _log(store: RunStore, run_id: str, lines: int) -> str | None:
    path = store.folder(run_id) / LOG
    if not path.is_file():  # opening a pipe would wait
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    return "\n".join(text.splitlines()[-lines:])
