"""Costs of rows without a finished run, from the counts in the store."""

from collections.abc import Mapping
from typing import Any

from ema_lab.specs.metric import COSTS
from ema_lab.specs.run import RunSpec
from ema_lab.store.cost_cache import cached_counts
from ema_lab.store.store import RunStore
from ema_lab.tables.text import number_text

Costs = Mapping[str, Any]


def counted_costs(
    rows: Mapping[str, RunSpec], finished: Mapping[str, Costs], store: RunStore
) -> dict[str, dict[str, str]]:
    """Return the costs of rows as tables print them, by row; rows of unknown cost are left out.

    A cost is known from a finished run of the same model in any row, or from `ema-lab cost`.

    Args:
        rows: A run of each row that has no finished one.
        finished: Recorded costs of finished runs, by the key of their model.
        store: Store of the counts that `ema-lab cost` has kept.
    """
    unknown = {name: spec for name, spec in rows.items() if spec.model_key not in finished}
    kept = cached_counts(store.root, unknown) if unknown else {}
    found = {name: finished.get(spec.model_key) or kept.get(name) for name, spec in rows.items()}
    return {name: _texts(costs) for name, costs in found.items() if costs}


def _texts(costs: Costs) -> dict[str, str]:
    return {
        key: number_text(costs[key] / form.scale, form.digits, ",")
        for key, form in COSTS.items()
        if isinstance(costs.get(key), int | float)
    }
