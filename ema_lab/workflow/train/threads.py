"""Torch threads per run of an ablation, and the warning before runs that form unclean pairs."""

import os
from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.attention.kernels.choice import FACT
from ema_lab.execution.threads import keep_threads, kept_threads, planned_threads
from ema_lab.measured.selection import environment_differences
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore
from ema_lab.workflow.events import UncleanPairs

IN_REACH: Mapping[str, Set[str]] = {  # attention with kernels, and its options with which a kernel runs
    "ema": {"groups"},
    "ca": {"reduction", "min_width"},
    "cbam": {"reduction", "kernel_size", "bias", "norm"},
    "triplet": {"kernel_size"},
    "sa": {"groups"},
}
ON_CPU_ALONE = {"ca", "cbam", "triplet", "sa"}  # their kernels are for the CPU


def base_ablation(base: str) -> Ablation:
    """Load the ablation that ABLATION/VARIANT names; the ablation may be a path."""
    path, slash, _ = base.partition(".yaml/")
    return load_ablation(f"{path}.yaml" if slash else base.partition("/")[0])


def expected_threads(store: RunStore, ablation: Ablation, requested: int | None, device: str) -> int | None:
    """Return the number of threads in each run of an ablation; None leaves it to torch, on a GPU."""
    if requested is None and device != "cpu" and visible_gpus():
        return kept_threads(store, ablation.name)
    return planned_threads(store, ablation.name, partial(_run_ids, ablation), requested).number


def settled_threads(store: RunStore, ablation: Ablation, requested: int | None, device: str) -> int | None:
    """Return the number of `expected_threads`, and keep it in the store for all later calls.

    Call it once every check has passed. A search uses the ablation of its base: its trials are runs of that
    ablation, too.
    """
    if requested is None and device != "cpu" and visible_gpus():
        return kept_threads(store, ablation.name)
    return keep_threads(store, ablation.name, partial(_run_ids, ablation), requested).number


def _run_ids(ablation: Ablation) -> list[str]:
    return [spec.run_id for spec in whole_runs(ablation)]


def visible_gpus() -> tuple[str, ...]:
    """Return the names of the CUDA devices that this process may use, without loading torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name for name in chosen.split(",") if name)
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))


def whole_runs(ablation: Ablation) -> list[RunSpec]:
    """Return all runs of an ablation's file, the selected ones first."""
    chosen = ablation.runs()
    chosen_ids = {spec.run_id for spec in chosen}
    others = (
        spec
        for spec in load_ablation(str(ablation.path), ablation.changes).runs()
        if spec.run_id not in chosen_ids
    )
    return [*chosen, *others]


def unclean_pairs(
    runs: Sequence[RunSpec], store: RunStore, pending: Sequence[RunSpec], facts: Mapping[str, Any]
) -> UncleanPairs | None:
    """Return a warning if runs that are about to be trained form unclean pairs, which tables mark with †.

    Args:
        runs: All runs of the ablation: those of one seed are compared with each other.
        store: Where its finished runs are.
        pending: Runs that are about to be trained.
        facts: Known environment facts of their future records, except for the precision.
    """
    expected = {spec.run_id: _expected(spec, facts) for spec in pending}
    records = store.records(spec.run_id for spec in runs if spec.run_id not in expected)
    done = {run_id: record.environment for run_id, record in records.items() if record.status == "done"}
    by_seed: dict[int, list[Mapping[str, Any]]] = {}
    for spec in runs:
        if (environment := expected.get(spec.run_id) or done.get(spec.run_id)) is not None:
            by_seed.setdefault(spec.seed, []).append(environment)
    unclean = [spec for spec in pending if environment_differences(by_seed[spec.seed])]
    if not unclean:
        return None
    environments = [each for seed in {spec.seed for spec in unclean} for each in by_seed[seed]]
    keys = environment_differences(environments)
    differences = "; ".join(f"{key}: {_values(environments, key)}" for key in keys)
    threads = {environment.get("num_threads") for environment in done.values()}
    finished = threads.pop() if "num_threads" in keys and len(threads) == 1 else None
    return UncleanPairs(len(unclean), len(pending), differences, finished)


def _expected(spec: RunSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's future environment facts, without the attention kernel if its options decide it."""
    if spec.recipe.compile != "off":
        facts = {**facts, FACT: "formula"}
    expected = {**facts, "precision": spec.recipe.precision}
    parts = (spec.model.attention, *(item.attention for item in spec.model.also))
    with_kernel = [part for part in parts if IN_REACH.keys() & set(part.names)]
    on_cpu = facts.get(FACT) == "exact" and str(facts.get("device")).startswith("cpu")
    is_plain = all(
        part.name in IN_REACH
        and part.options.keys() <= IN_REACH[part.name]
        and (part.name not in ON_CPU_ALONE or on_cpu)
        for part in with_kernel
    )
    if not with_kernel or (
        facts.get(FACT) != "formula" and not (is_plain and spec.recipe.precision == "fp32")
    ):
        expected.pop(FACT, None)
    return expected


def _values(environments: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the distinct values of one fact in words; of package versions, those that differ."""
    values = [each[key] for each in environments if each.get(key) is not None]
    if all(isinstance(value, Mapping) for value in values):
        names = sorted({name for value in values for name in value})
        parts = {name: sorted({str(value.get(name, "none")) for value in values}) for name in names}
        return ", ".join(f"{name} {' and '.join(each)}" for name, each in parts.items() if len(each) > 1)
    return " and ".join(sorted({str(value) for value in values}))
