"""Page of one run of a store, whether or not an ablation has it."""

from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.measured.selection import measure, rows_of
from ema_lab.reports.page.data import page_data
from ema_lab.reports.usual import ablation_report
from ema_lab.store.layout import SPEC
from ema_lab.store.store import RunStore


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
