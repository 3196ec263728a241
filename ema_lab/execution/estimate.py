"""Estimated wall time of pending runs, from finished runs of the same work or from probes."""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ema_lab.errors import StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json
from ema_lab.store.document import read_json, write_json
from ema_lab.store.layout import PROBES
from ema_lab.store.record import Number, RunRecord
from ema_lab.store.store import RunStore

_PROBED = TypeAdapter(dict[str, dict[str, Number]])


def work_key(spec: RunSpec) -> str:
    """Return a key that is equal for runs that differ only in their seed."""
    return canonical_json({key: value for key, value in spec.resolved().items() if key != "seed"})


@dataclass(frozen=True)
class Estimates:
    """Wall seconds by work key.

    Attributes:
        finished: Mean wall time of the finished runs.
        probed: Wall time extrapolated from a few steps.
    """

    finished: Mapping[str, float]
    probed: Mapping[str, float]

    def seconds(self, spec: RunSpec) -> float | None:
        """Return the expected wall seconds of a run; None if no such work was measured."""
        if not self.finished and not self.probed:
            return None  # as in a new store, where the keys of a large grid would be built for nothing
        key = work_key(spec)
        return self.finished.get(key, self.probed.get(key))


def estimates(
    specs: Iterable[RunSpec],
    store: RunStore,
    device: str = "",
    records: Mapping[str, RunRecord | None] | None = None,
) -> Estimates:
    """Collect estimates from the finished runs and the probes of a store.

    Args:
        specs: Runs to look for in the store.
        store: The store.
        device: Device whose probes count. Without one all probes count, which is enough to order runs.
        records: Records by run id, if they have been read.
    """
    times: dict[str, list[float]] = {}
    if records is None:
        present = store.folder_names()
        specs = [spec for spec in specs if spec.run_id in present]
        records = store.records(spec.run_id for spec in specs)
    for spec in specs:
        record = records.get(spec.run_id)
        if record is not None and record.status == "done":
            times.setdefault(work_key(spec), []).append(record.wall_seconds)
    finished = {key: statistics.fmean(seconds) for key, seconds in times.items()}
    probes = _all_probes(store.root)
    chosen = [probes.get(device, {})] if device else list(probes.values())
    return Estimates(finished, {key: seconds for part in chosen for key, seconds in part.items()})


def keep_probe(root: Path, device: str, spec: RunSpec, seconds: float) -> None:
    """Add a probe of a device, in seconds, to the store."""
    known = _all_probes(root)
    known.setdefault(device, {})[work_key(spec)] = seconds
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / PROBES, known, durable=False)


def _all_probes(root: Path) -> dict[str, dict[str, float]]:
    try:
        return _PROBED.validate_python(read_json(root / PROBES), strict=True)
    except (OSError, StoreError, ValidationError):  # a new probe costs only seconds
        return {}


def longest_first(specs: Sequence[RunSpec], known: Estimates) -> list[RunSpec]:
    """Order runs so that the grid ends earliest: unknown durations first, then the longest."""

    def order(spec: RunSpec) -> float:
        seconds = known.seconds(spec)
        return float("-inf") if seconds is None else -seconds

    return sorted(specs, key=order)


def finish_times(seconds: Sequence[float], workers: int) -> list[float]:
    """Return the end of each run in seconds from the start, if free workers take the runs in order."""
    free = [0.0] * max(1, min(workers, len(seconds)))
    ends = []
    for duration in seconds:
        end = heapq.heappop(free) + duration
        heapq.heappush(free, end)
        ends.append(end)
    return ends
