"""ema-lab: ablations and experiment tracking for visual attention modules.

The public surface; each name is imported when it is first used, so that `import ema_lab` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ema_lab.ablation.ablation import load_ablation
    from ema_lab.attention import attentions, build_attention, load_reference_state
    from ema_lab.cost.measure import measure_cost
    from ema_lab.execution.executor import execute
    from ema_lab.models.build import build_model
    from ema_lab.one_run.model import load_model
    from ema_lab.one_run.pipeline import train_run
    from ema_lab.specs.run import RunSpec
    from ema_lab.store.store import RunStore

_WHERE = {
    "RunSpec": "ema_lab.specs.run",
    "RunStore": "ema_lab.store.store",
    "attentions": "ema_lab.attention",
    "build_attention": "ema_lab.attention",
    "build_model": "ema_lab.models.build",
    "execute": "ema_lab.execution.executor",
    "load_ablation": "ema_lab.ablation.ablation",
    "load_model": "ema_lab.one_run.model",
    "load_reference_state": "ema_lab.attention",
    "measure_cost": "ema_lab.cost.measure",
    "train_run": "ema_lab.one_run.pipeline",
}
__all__ = [
    "RunSpec",
    "RunStore",
    "attentions",
    "build_attention",
    "build_model",
    "execute",
    "load_ablation",
    "load_model",
    "load_reference_state",
    "measure_cost",
    "train_run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ema_lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
