"""The option --threads, and the warning before runs that tables would mark as no clean pairs."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.execution.threads import keep_threads, kept_threads, planned_threads
from ema_lab.results.selection import unlike
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore

NumThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of torch for each run; by default what `plan` prints, the same for a whole ablation.",
    ),
]


def base_ablation(base: str) -> Ablation:
    """Return the ablation in ABLATION/VARIANT, which may be a path."""
    path, slash, _ = base.partition(".yaml/")
    return load_ablation(f"{path}.yaml" if slash else base.partition("/")[0])


def expected_threads(store: RunStore, ablation: Ablation, asked: int | None, device: str) -> int | None:
    """Return the threads of each run of an ablation here; on a GPU None leaves them to torch."""
    if asked is None and device != "cpu" and visible_gpus():
        return kept_threads(store, ablation.name)
    return planned_threads(store, ablation.name, partial(_run_ids, ablation), asked).number


def settled_threads(store: RunStore, ablation: Ablation, asked: int | None, device: str) -> int | None:
    """Return the same, and keep it for the ablation: called when nothing speaks against training any more.

    The number of a search is its base's: its trials, and what is trained after it, are the ablation's runs.
    """
    if asked is None and device != "cpu" and visible_gpus():
        return kept_threads(store, ablation.name)
    return keep_threads(store, ablation.name, partial(_run_ids, ablation), asked).number


def _run_ids(ablation: Ablation) -> list[str]:
    return [spec.run_id for spec in whole_runs(ablation)]


def visible_gpus() -> tuple[str, ...]:
    """Return the CUDA devices that this process may use, found without torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name for name in chosen.split(",") if name)
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))


def whole_runs(ablation: Ablation) -> list[RunSpec]:
    """Return the runs of an ablation, those included that options have left out of it."""
    chosen = ablation.runs()
    there = {spec.run_id for spec in chosen}
    others = (spec for spec in load_ablation(str(ablation.path)).runs() if spec.run_id not in there)
    return [*chosen, *others]


def unclean_lines(
    runs: Sequence[RunSpec], store: RunStore, pending: Sequence[RunSpec], here: Mapping[str, Any]
) -> list[str]:
    """Return a warning if runs that are about to be trained make no clean pairs: tables mark those with †.

    Args:
        runs: All of the ablation: those of a seed are compared with each other.
        store: Where its finished runs are.
        pending: What is about to be trained.
        here: What their records will say, as far as it is known, but for the precision.
    """
    wanted = {spec.run_id: {**here, "precision": spec.recipe.precision} for spec in pending}
    records = store.records(spec.run_id for spec in runs if spec.run_id not in wanted)
    done = {run_id: one.environment for run_id, one in records.items() if one.status == "done"}
    of_seed: dict[int, list[Mapping[str, Any]]] = {}
    for spec in runs:
        if (known := wanted.get(spec.run_id) or done.get(spec.run_id)) is not None:
            of_seed.setdefault(spec.seed, []).append(known)
    unclean = [spec for spec in pending if unlike(of_seed[spec.seed])]
    if not unclean:
        return []
    ran_on = [one for seed in {spec.seed for spec in unclean} for one in of_seed[seed]]
    differing = "; ".join(f"{key}: {_values(ran_on, key)}" for key in unlike(ran_on))
    count = f"{len(unclean)} of {len(pending)} run{'s' * (len(pending) != 1)} to train"
    lines = [f"warning: {count} will be no clean pair with the others of the seed, marked † ({differing})"]
    threads = {one.get("num_threads") for one in done.values()}
    if "num_threads" in unlike(ran_on) and len(threads) == 1:
        lines.append(f"hint: --threads {threads.pop()} is what the finished runs had")
    return lines


def _values(environments: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the different values of a fact; of versions, those that differ."""
    found = [one[key] for one in environments if one.get(key) is not None]
    if all(isinstance(value, Mapping) for value in found):
        names = sorted({name for value in found for name in value})
        parts = {name: sorted({str(value.get(name, "none")) for value in found}) for name in names}
        return ", ".join(f"{name} {' and '.join(each)}" for name, each in parts.items() if len(each) > 1)
    return " and ".join(sorted({str(value) for value in found}))
