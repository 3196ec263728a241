"""What the page knows besides the tables: the runs behind them, what is missing, what reproduces them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ema_lab.experiments.ablation import Ablation
from ema_lab.experiments.curve import read_curve
from ema_lab.experiments.grid import Cell
from ema_lab.experiments.standing import Standing, Survey
from ema_lab.experiments.store import RunStore
from ema_lab.reports.figures.draw import column_label
from ema_lab.reports.figures.style import look, looks_of
from ema_lab.specs.metric import COSTS, METRICS

LOG_LINES = 40  # the end of a log, which says why a run failed
MOST_CURVES = 2000  # of more runs, the page shows no curves: it would be too large to open
CURVE_COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "val_top1", "test_top1", "val_loss", "test_loss")


def page_data(
    name: str,
    title: str,
    ablations: Iterable[Ablation],
    store: RunStore,
    names: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return plain data: the runs of the ablations by id, and the commands that make the report again.

    `names`: those of rows for print. Rows of several ablations keep the ablation's name before theirs.

    Nothing depends on the time or the machine that it is called on, so that equal records give equal pages.
    """
    ablations = list(ablations)
    rows = {cell.run_id: _row(one, cell, ablations) for one in ablations for cell in one.cells}
    cells = {cell.run_id: cell for ablation in ablations for cell in ablation.cells}
    survey = Survey(store)
    with_curves = len(cells) <= MOST_CURVES
    return {
        "name": name,
        "title": title,
        "ablations": [ablation.name for ablation in ablations],
        "metrics": {key: {"label": m.label, "unit": m.unit, "sign": m.sign} for key, m in METRICS.items()},
        "costs": {key: cost.label for key, cost in COSTS.items()},
        "columns": {column: column_label(column) for column in CURVE_COLUMNS},
        "rows": _looks(ablations, names),
        "commands": commands(name, ablations),
        "curves_left_out": None if with_curves else f"more than {MOST_CURVES} runs",
        "runs": {
            run_id: run_data(cell, survey.standing(cell.spec), store, with_curves) | {"variant": rows[run_id]}
            for run_id, cell in cells.items()
        },
    }


def _row(ablation: Ablation, cell: Cell, ablations: Sequence[Ablation]) -> str:
    return f"{ablation.name}: {cell.row}" if len(ablations) > 1 else cell.row


def _looks(ablations: Sequence[Ablation], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return each row's name in print, colour and marker, those of the figures, in the file's order."""
    rows = {_row(one, cells[0], ablations): name for one in ablations for name, cells in one.rows().items()}
    if len(ablations) == 1:
        looks = looks_of(ablations[0])
    else:  # one module in several ablations: the rows must be told apart
        looks = {row: look(place) for place, row in enumerate(rows)}
    return [
        {
            "row": row,
            "label": row.removesuffix(name) + names.get(name, name),
            "colour": looks[row].colour,
            "marker": looks[row].marker,
        }
        for row, name in rows.items()
    ]


def commands(name: str, ablations: Iterable[Ablation]) -> list[str]:
    """Return what trains the runs and writes the report, as one would type it."""
    return [
        *(f"ema-lab run {ablation.name}" for ablation in ablations),
        f"ema-lab report {name} --out {name}",
    ]


def run_data(cell: Cell, standing: Standing, store: RunStore, with_curve: bool) -> dict[str, Any]:
    """Return what is known of one run."""
    facts = standing.facts
    record = facts.record if facts.done else None
    failed = standing.state != "done" and standing.failure is not None
    return {
        "variant": cell.row,
        "seed": cell.seed,
        "status": standing.state,
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
        "attempts": [attempt.model_dump(mode="json", exclude={"source"}) for attempt in facts.attempts],
        "why": standing.reason,
        "heartbeat": standing.heartbeat.epoch if standing.heartbeat else None,
        "curve": _curve(store, cell.run_id) if with_curve and standing.state != "pending" else None,
        "log": _log(store, cell.run_id) if failed else None,
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _curve(store: RunStore, run_id: str) -> dict[str, list[float | None]] | None:
    """Return the columns of a run's curve, to five digits: enough to draw."""
    rows = read_curve(store.folder(run_id))
    kept = [name for name in CURVE_COLUMNS if rows and name in rows[0]]
    return {name: [_number(row.get(name)) for row in rows] for name in kept} or None


def _number(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _log(store: RunStore, run_id: str) -> str | None:
    try:
        lines = (store.folder(run_id) / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return "\n".join(lines[-LOG_LINES:])
