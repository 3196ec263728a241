"""Data of a report's page besides the tables: runs, missing runs, and commands that reproduce both."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import StoreError
from ema_lab.measured.selection import Measured, Row, measure, rows_of
from ema_lab.reports.figures.numbers import mean_interval
from ema_lab.reports.figures.style import look, looks_of
from ema_lab.reports.page.counted import counted_costs
from ema_lab.reports.page.figures import page_figures
from ema_lab.reports.page.progress import Work, progress
from ema_lab.reports.report import with_task
from ema_lab.reports.row_order import modules_of, report_rows, row_labels
from ema_lab.reports.usual import ablation_report
from ema_lab.specs.metric import COSTS, Cost
from ema_lab.specs.report import ReportSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.layout import LOG, SPEC
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore
from ema_lab.store.survey import RunStatus, Survey
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import flat_records, render_csv, render_markdown
from ema_lab.tables.table import Table
from ema_lab.tables.text import number_text

LOG_LINES = 40  # the end of a failed run's log, which has the cause
DONE_LOG_LINES = 10
LOG_BYTES = 1 << 16  # read at most so much of a log, from its end
MOST_CURVES = 2000  # with the curves, logs and attempts of more runs, browsers could not open the page
LEFT_OUT = ("train_seconds",)  # curve columns that differ between machines
AblationRows = Sequence[tuple[Ablation, Sequence[Row]]]


def report_data(spec: ReportSpec, tables: Iterable[Table], store: RunStore) -> dict[str, Any]:
    """Return the data of the page that shows these tables of a report."""
    return page_data(spec, report_rows(spec, store), tables, store)


def served_data(spec: ReportSpec, tables: Iterable[Table], store: RunStore) -> dict[str, Any]:
    """Return the data of a served page, which also has the counted costs of rows without a finished run.

    A written page lacks them: they depend on what `ema-lab cost` has kept on this machine.
    """
    sections = report_rows(spec, store)
    return {**page_data(spec, sections, tables, store), "counted": _counted(spec, sections, store)}


def _counted(spec: ReportSpec, sections: AblationRows, store: RunStore) -> dict[str, dict[str, str]]:
    """Return costs as text by the name that the table of the report gives a row."""
    if spec.kind not in {"main", "leave_one_out"} or len(sections) != 1:
        return {}
    [(_, rows)] = sections
    finished = {
        item.cell.spec.model_key: item.record.cost for row in rows for item in row.cells if item.record
    }
    waiting = {row.name: row.cells[0].cell.spec for row in rows if not row.records}
    return counted_costs(waiting, finished, store)


def page_data(
    spec: ReportSpec, sections: AblationRows, tables: Iterable[Table], store: RunStore
) -> dict[str, Any]:
    """Return plain data: the runs of a report by id, and the commands that reproduce the report.

    Rows of several ablations are prefixed with the ablation's name. Nothing depends on the time or the
    machine, so that equal records give equal pages.

    Args:
        spec: Spec of the report.
        sections: Rows from `report_rows`.
        tables: Tables of the report. Every run that a cell names is included, even of hidden rows.
        store: Store of the runs.
    """
    spec, tables = with_task(spec, (ablation for ablation, _ in sections)), list(tables)
    prefixes = {ablation.name: f"{ablation.name}: " if len(sections) > 1 else "" for ablation, _ in sections}
    others = _hidden_rows(sections, tables)
    cells = _cells([*sections, *others], prefixes)
    survey = Survey(store)
    is_whole = len(cells) <= MOST_CURVES
    runs = {
        run_id: {"variants": names} | run_data(spec, cell, survey.status(cell.spec), store, is_whole)
        for run_id, (names, cell) in cells.items()
    }
    columns = dict.fromkeys(column for run in runs.values() for column in run["curve"] or ())
    return {
        "kind": "report",
        "name": spec.name,
        "title": spec.title or spec.name,
        "ablations": [ablation.name for ablation, _ in sections],
        "metrics": {
            key: {"label": metric.label, "header": metric.header, "sign": metric.sign}
            for key, metric in spec.task.metrics.items()
        },
        "primary": spec.task.primary,
        "digits": spec.digits,
        "costs": {
            key: {"label": cost.label, "header": _cost_header(cost), "scale": cost.scale}
            for key, cost in COSTS.items()
        },
        "columns": {column: spec.task.curve_label(column) for column in columns},
        "rows": _rows(spec, sections, prefixes),
        "others": _rows(spec, others, prefixes),
        "commands": commands(spec.name, [ablation for ablation, _ in sections]),
        "tables": [_formats(table) for table in tables],
        "pictures": [{"name": figure.name, "title": figure.title or figure.name} for figure in spec.figures],
        "figures": page_figures(spec, sections[0][1], store) if len(sections) == 1 else [],
        "progress": _progress(cells, runs),
        "left_out": None if is_whole else f"more than {MOST_CURVES} runs",
        "runs": runs,
    }


def _progress(
    cells: Mapping[str, tuple[list[str], Cell]], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return progress(
        Work(
            names[0],
            cell.spec.recipe.epochs,
            runs[run_id]["status"],
            runs[run_id]["wall_seconds"],
            runs[run_id]["trained"],
        )
        for run_id, (names, cell) in cells.items()
    )


def run_page_data(store: RunStore, run_id: str) -> dict[str, Any]:
    """Return the data of a page that shows one run.

    Raises:
        StoreError: If the run's spec cannot be read.
    """
    spec = store.spec(run_id)
    cell = Cell(spec.model.attention.name, (), (), spec.seed, spec)
    ablation = Ablation(run_id, "", store.folder(run_id) / SPEC, None, (cell,))
    report = ablation_report(ablation)
    data = page_data(report, [(ablation, rows_of(ablation, measure(ablation, store)))], (), store)
    return {**data, "kind": "run", "title": f"Run {run_id}", "pictures": [], "commands": []}


def _formats(table: Table) -> dict[str, str]:
    """Return a table's texts to copy."""
    return {
        "name": table.name,
        "latex": render_latex(table),
        "markdown": render_markdown(table),
        "csv": render_csv(flat_records(table)),
    }


def _cost_header(cost: Cost) -> str:
    return f"{cost.label} ({cost.unit})" if cost.unit else cost.label


def _hidden_rows(sections: AblationRows, tables: Iterable[Table]) -> AblationRows:
    """Return the hidden rows whose runs some cell names: baselines, or levels of effects."""
    table_cells = [cell for table in tables for row in table.rows for cell in row.cells]
    named = {
        run_id
        for cell in table_cells
        for run_id in (*cell.run_ids, *cell.missing_run_ids, *cell.baseline_run_ids)
    }
    named -= {run_id for _, rows in sections for row in rows for run_id in row.run_ids}
    return [
        (
            ablation,
            rows_of(
                ablation, [Measured(cell, None, None) for cell in ablation.cells if cell.run_id in named]
            ),
        )
        for ablation, _ in sections
    ]


def _cells(sections: AblationRows, prefixes: Mapping[str, str]) -> dict[str, tuple[list[str], Cell]]:
    """Return each run's cell and the names of its rows; cells of equal specs share one run."""
    cells: dict[str, tuple[list[str], Cell]] = {}
    for ablation, rows in sections:
        for row in rows:
            for item in row.cells:
                names, _ = cells.setdefault(item.cell.run_id, ([], item.cell))
                names.append(prefixes[ablation.name] + row.name)
    return cells


def _rows(spec: ReportSpec, sections: AblationRows, prefixes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each row's display name, look and means, in the order of tables and figures."""
    own_looks = looks_of(modules_of(*sections[0])) if len(sections) == 1 else {}
    entries: list[dict[str, Any]] = []
    for ablation, rows in sections:
        prefix, labels = prefixes[ablation.name], row_labels(spec, rows)
        for row in rows:  # a module in several ablations gets several looks, to distinguish its rows
            entries.append(
                {
                    "row": prefix + row.name,
                    "label": prefix + labels[row.name],
                    "means": _means(spec, row),
                    **asdict(own_looks.get(row.name) or look(len(entries))),
                }
            )
    return entries


def _means(spec: ReportSpec, row: Row) -> dict[str, dict[str, float | str | None]]:
    """Return each metric's mean over seeds and its interval (None without one), equal to the figures'."""
    means: dict[str, dict[str, float | str | None]] = {}
    for key in spec.task.metrics:
        if values := row.values(key):
            interval = mean_interval(values, decided=spec.is_decided)
            low, high = (interval.low, interval.high) if interval.has_interval else (None, None)
            text = number_text(interval.mean, spec.digits)
            means[key] = {
                "mean": interval.mean,
                "low": low,
                "high": high,
                "n": interval.count,
                "text": text,
            }
    return means


def commands(name: str, ablations: Iterable[Ablation]) -> list[str]:
    """Return the shell commands that train the runs and write the report."""
    return [
        *(f"ema-lab run {ablation.name}" for ablation in ablations),
        f"ema-lab report {name} --out {name}",
    ]


def run_data(
    spec: ReportSpec, cell: Cell, status: RunStatus, store: RunStore, is_whole: bool
) -> dict[str, Any]:
    """Return the data of one run. `is_whole` adds its curve and, if finished, its log and attempts."""
    facts, is_done = status.facts, status.state == "done"
    record = facts.record if facts.done else None
    attempts = _attempts(store, cell.run_id) if is_done and is_whole else facts.attempts
    tried = attempts[:-1] if status.state == "running" else attempts
    metrics = _finite(record.metrics) if record else {}
    costs = (
        _finite({key: value for key, value in record.cost.items() if isinstance(value, int | float)})
        if record
        else {}
    )
    lines = LOG_LINES if status.failure else DONE_LOG_LINES if is_done and is_whole else 0
    return {
        "seed": cell.seed,
        "status": status.state,
        "failures": sum(attempt.outcome in {"failed", None} for attempt in tried),
        "stale": list(status.stale),
        "spec": cell.spec.resolved(),
        "metrics": metrics,
        "chosen_epoch": record.chosen_epoch if record else None,
        "cost": costs,
        "texts": _texts(spec, metrics, costs)
        | ({"wall_seconds": number_text(record.wall_seconds, 1, ",")} if record else {}),
        "wall_seconds": record.wall_seconds if record else None,
        "environment": dict(record.environment) if record else {},
        "data_sha256": record.data_sha256 if record else None,
        "attempts": [attempt.model_dump(mode="json", exclude={"source"}) for attempt in attempts],
        "why": status.reason,
        "place": _place(status.heartbeat) if status.heartbeat else None,
        "trained": status.heartbeat.trained if status.heartbeat else None,
        "curve": _curve(store, cell.run_id) if is_whole and status.state != "pending" else None,
        "log": _log(store, cell.run_id, lines) if lines else None,
    }


def _place(beat: Heartbeat) -> str:
    return f"{beat.place}{', stalled' if beat.is_stalled else ''}"


def _attempts(store: RunStore, run_id: str) -> Sequence[Attempt]:
    """Return the attempts of a finished run; empty if a file is damaged, which must not break the page."""
    try:
        return store.attempts(run_id)
    except StoreError:
        return ()


def _texts(spec: ReportSpec, metrics: Mapping[str, float], costs: Mapping[str, float]) -> dict[str, str]:
    """Return metrics and costs as the tables print them; they keep their digits on the whole page."""
    forms = {key: COSTS[key] for key in costs if key in COSTS}
    printed_costs = {
        key: number_text(costs[key] / form.scale, form.digits, ",") for key, form in forms.items()
    }
    return {key: number_text(value, spec.digits) for key, value in metrics.items()} | printed_costs


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _curve(store: RunStore, run_id: str) -> dict[str, list[float | None]] | None:
    """Return the columns of a run's curve to five digits, which is enough to draw."""
    rows = read_curve(store.folder(run_id))
    kept = [name for name in (rows[0] if rows else ()) if name not in LEFT_OUT]
    return {name: [_number(row.get(name)) for row in rows] for name in kept} or None


def _number(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _log(store: RunStore, run_id: str, lines: int) -> str | None:
    path = store.folder(run_id) / LOG
    if not path.is_file():  # opening a pipe would block
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    return "\n".join(text.splitlines()[-lines:])
