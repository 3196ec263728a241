"""ema-lab: ablations and experiment tracking for visual attention modules.

The public surface; each name is imported when it is first used, so that `import ema_lab` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ema_lab.ablation.ablation import load_ablation
    from ema_lab.attention import attentions, build_attention, load_reference_state
    from ema_lab.execution.executor import execute
    from ema_lab.models.build import build_model
    from ema_lab.models.user_model import insert
    from ema_lab.one_run.model import load_model
    from ema_lab.one_run.pipeline import train_run
    from ema_lab.profiling.cost import cost
    from ema_lab.profiling.measure import measure_cost
    from ema_lab.specs.run import RunSpec
    from ema_lab.store.store import RunStore
    from ema_lab.workflow.look.cost import Latency, costs
    from ema_lab.workflow.look.frame import results
    from ema_lab.workflow.publish.audit import audit_claims
    from ema_lab.workflow.publish.report import report
    from ema_lab.workflow.search.sweep import SearchOptions, sweep
    from ema_lab.workflow.search.tune import Space, tune
    from ema_lab.workflow.train.plan import plan
    from ema_lab.workflow.train.run import run
    from ema_lab.workflow.train.status import status
    from ema_lab.workflow.train.until import Until

_WHERE = {
    "Latency": "ema_lab.workflow.look.cost",
    "RunSpec": "ema_lab.specs.run",
    "RunStore": "ema_lab.store.store",
    "SearchOptions": "ema_lab.workflow.search.sweep",
    "Space": "ema_lab.workflow.search.tune",
    "Until": "ema_lab.workflow.train.until",
    "attentions": "ema_lab.attention",
    "audit_claims": "ema_lab.workflow.publish.audit",
    "build_attention": "ema_lab.attention",
    "build_model": "ema_lab.models.build",
    "cost": "ema_lab.profiling.cost",
    "costs": "ema_lab.workflow.look.cost",
    "execute": "ema_lab.execution.executor",
    "insert": "ema_lab.models.user_model",
    "load_ablation": "ema_lab.ablation.ablation",
    "load_model": "ema_lab.one_run.model",
    "load_reference_state": "ema_lab.attention",
    "measure_cost": "ema_lab.profiling.measure",
    "plan": "ema_lab.workflow.train.plan",
    "report": "ema_lab.workflow.publish.report",
    "results": "ema_lab.workflow.look.frame",
    "run": "ema_lab.workflow.train.run",
    "status": "ema_lab.workflow.train.status",
    "sweep": "ema_lab.workflow.search.sweep",
    "train_run": "ema_lab.one_run.pipeline",
    "tune": "ema_lab.workflow.search.tune",
}
__all__ = [
    "Latency",
    "RunSpec",
    "RunStore",
    "SearchOptions",
    "Space",
    "Until",
    "attentions",
    "audit_claims",
    "build_attention",
    "build_model",
    "cost",
    "costs",
    "execute",
    "insert",
    "load_ablation",
    "load_model",
    "load_reference_state",
    "measure_cost",
    "plan",
    "report",
    "results",
    "run",
    "status",
    "sweep",
    "train_run",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ema_lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
