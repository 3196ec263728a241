"""Costs of an ablation's models from Python: the same as the command `ema-lab cost`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import CostError, SpecError, StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.cost_cache import CostCache
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.events import Remark, TimingStarted
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE, Watch, ignore
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.selection import Conditions, selected
from ema_lab.workflow.train.grid import check_models

if TYPE_CHECKING:
    from ema_lab.one_run.measurement import Finished, Timing

Convention = Literal["matmul", "fvcore", "all", "thop"]
Rows = list[dict[str, Any]]
MIN_ROUNDS = 8  # the bootstrap of the 99 % interval draws blocks of rounds
PLACE = ("attention", "channels", "height", "width")  # what an inserted module is, and the size of its input


@dataclass(frozen=True)
class Latency:
    """Request to time models instead of counting.

    Attributes:
        mode: "inference", or "training" for whole training steps.
        batch: Images at a time.
        rounds: Rounds A B B A; each times row and baseline twice.
        device: "auto", "cpu" or "cuda".
        trained: Time each row's finished run with the lowest seed on test images, not a new model on noise.
        data: Folder of the data sets, for `trained`.

    Raises:
        SpecError: If a number is too small, or training steps of trained models are asked for.

    Example:
        >>> ema_lab.Latency(mode="training", batch=4).rounds
        40
    """

    mode: Literal["inference", "training"] = "inference"
    batch: int = 8
    rounds: int = 40
    device: str = "auto"
    trained: bool = False
    data: Path | str = DEFAULT_DATA

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("rounds", MIN_ROUNDS)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if self.trained and self.mode == "training":
            raise SpecError("trained models are timed in inference, not in training steps")


def costs(
    ablation: str | Path | Ablation,
    *,
    only: Conditions | None = None,
    layers: bool = False,
    macs: Convention = "fvcore",
    latency: Latency | None = None,
    fresh: bool = False,
    store: Path | str = DEFAULT_STORE,
    watch: Watch = ignore,
) -> Rows:
    """Return the cost of every row's model and its difference to the baseline, as one flat object per row.

    Measurements are kept in the store if it can be written. `measure_cost` counts a model that is no row of
    an ablation.

    Example:
        >>> for row in ema_lab.costs("quickstart", only=["variant=ema", "model.attention.groups=8"]):
        ...     print(row["variant"], row["parameters"], row["delta_parameters"])
        ema [groups=8] 272122 2688

    Args:
        ablation: A path, the name of a definition, or a loaded ablation.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        layers: One object per inserted module instead, with its own share.
        macs: Convention: matrix products; as fvcore counts; every operation; as YOLOv5 prints them.
        latency: Time every row beside its baseline instead of counting.
        fresh: Measure again what the store has kept.
        store: Folder of the runs.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        EmaLabError: If the request is wrong, the store does not exist, or a model does not fit or cannot
            be counted.
    """
    from ema_lab.training.environment import versions

    if latency is not None and layers:
        raise SpecError("--latency times whole models: it does not go with --layers")
    if latency is None and macs == "thop" and layers:
        raise SpecError("--macs thop counts whole models: it does not go with --layers")
    runs = existing_store(store)
    whole = selected(ablation)
    chosen = selected(whole, only)
    check_models(chosen)
    cache = CostCache(runs.root, versions(), fresh)
    measured = _Costs(chosen, whole, cache, watch)
    if latency is not None:
        rows = list(measured.timed(latency, runs))
    elif macs == "thop":
        rows = list(measured.yolov5_counts())
    else:
        rows = list(measured.by_layer(macs) if layers else measured.counted(macs))
    for loss in cache.losses:
        watch(Remark("", loss))
    return rows


@dataclass(frozen=True)
class _Costs:
    """Measurements of the chosen rows. `whole` has every row: `chosen` may lack the baseline."""

    chosen: Ablation
    whole: Ablation
    cache: CostCache
    watch: Watch

    def counted(self, macs: Convention) -> Iterator[dict[str, Any]]:
        """Yield the counts of each row, and its differences to the baseline."""
        keys = self._keys(macs)
        for row, cells in self.chosen.rows().items():
            with _named(row):
                counts = self._count(cells[0].spec)
            base = self.whole.baseline_of(cells[0])
            base_counts = self._count(base.spec) if base else None
            values: dict[str, Any] = {"variant": row}
            for key in keys:
                values[key] = counts[key]
                values[f"delta_{key}"] = counts[key] - base_counts[key] if base_counts else None
            values["parameters_trainable"] = counts["parameters_trainable"]
            self._report_uncounted(row, counts["uncounted"])
            yield values

    def yolov5_counts(self) -> Iterator[dict[str, Any]]:
        """Yield parameters and GFLOPs of each row as YOLOv5 prints them, and both with fused batch norms."""
        from ema_lab.one_run.measurement import yolov5_cost

        rule = "for one image; as thop 0.0.31 counts them on one coarse cell, scaled; two per multiply-add"
        self.watch(Remark("gflops", rule))
        for row, cells in self.chosen.rows().items():
            base = self.whole.baseline_of(cells[0])
            values: dict[str, Any] = {"variant": row}
            with _named(row):
                counts, before = (
                    self.cache.get((spec,), {"what": "printed"}, partial(yolov5_cost, spec)) if spec else None
                    for spec in (cells[0].spec, base.spec if base else None)
                )
            assert counts is not None
            for key, value in counts.items():
                values[key] = value
                values[f"delta_{key}"] = value - before[key] if before else None
            yield values

    def by_layer(self, macs: Convention) -> Iterator[dict[str, Any]]:
        """Yield the share of each inserted module of each row, then their sum."""
        from ema_lab.one_run.measurement import layer_costs

        keys = self._keys(macs)
        for row, cells in self.chosen.rows().items():
            spec = cells[0].spec
            with _named(row):
                shares = self.cache.get((spec,), {"what": "layers"}, partial(layer_costs, spec))
            self._report_uncounted(row, _summed(share["uncounted"] for share in shares.values()))
            for name, share in shares.items():
                yield {"variant": row, "layer": name, **{key: share[key] for key in (*PLACE, *keys)}}
            if shares:
                sums = {key: sum(share[key] for share in shares.values()) for key in keys}
                yield {"variant": row, "layer": "sum", **dict.fromkeys(PLACE), **sums}

    def timed(self, latency: Latency, runs: RunStore) -> Iterator[dict[str, Any]]:
        """Yield the latency of each row and of its baseline, timed in turn.

        Raises:
            SpecError: If the ablation names no baseline.
            StoreError: If rows without a finished run are to be timed as trained.
        """
        from ema_lab.one_run.measurement import Finished, Timing, run_latency
        from ema_lab.training.environment import device_name
        from ema_lab.training.machine import choose_device

        if self.whole.baseline is None:
            raise SpecError(
                f"--latency compares with the baseline, and the ablation {self.whole.name} names none"
            )
        pairs = self._pairs() if latency.trained else {}
        done = self._lowest_seeds({*pairs, *pairs.values()}, runs) if latency.trained else {}
        device = choose_device(latency.device)
        timing = Timing(latency.mode, latency.batch, latency.rounds, device)
        rule = f"batches of {latency.batch}, {number_of(latency.rounds, 'round')} of A B B A, fp32"
        self.watch(Remark("", f"{latency.mode}, {rule}, {timing.threads()}, {device_name(device)}"))
        setting = {"what": "latency", **timing.facts()}
        if latency.trained:
            self._report_stale(done, runs)
            yield from self._timed_runs(pairs, done, Finished(runs, Path(latency.data)), timing)
            return
        for row, cells in self.chosen.rows().items():
            base = self.whole.baseline_of(cells[0])
            if base is None or base.spec.model_key == cells[0].spec.model_key:
                continue
            pair = (cells[0].spec, base.spec)
            self.watch(TimingStarted(row, base.row))
            with _named(row):
                measured = self.cache.get(pair, setting, partial(run_latency, *pair, timing))
            yield {"variant": row, "baseline": base.row, **measured}

    def _pairs(self) -> dict[str, str]:
        """Return the baseline row of each row that has one."""
        bases = {row: self.whole.baseline_of(cells[0]) for row, cells in self.chosen.rows().items()}
        return {row: base.row for row, base in bases.items() if base is not None and base.row != row}

    def _report_stale(self, done: Mapping[str, Cell], runs: RunStore) -> None:
        staleness = Staleness()
        stale = [row for row, cell in done.items() if staleness.parts(cell.spec, runs.record(cell.run_id))]
        if stale:
            self.watch(Remark("", f"stale, as their source has changed since: {', '.join(stale)}"))

    def _timed_runs(
        self, pairs: Mapping[str, str], done: Mapping[str, Cell], finished: "Finished", timing: "Timing"
    ) -> Iterator[dict[str, Any]]:
        """Yield the latency of each row's finished run, timed in turn with that of its baseline."""
        from ema_lab.one_run.measurement import run_latency

        rule = f"finished runs, on {number_of(timing.batch, 'test image')} at equal distances in the split"
        self.watch(Remark("", rule))
        for row, base_row in pairs.items():
            cells = (done[row], done[base_row])
            specs = (cells[0].spec, cells[1].spec)
            facts = {"what": "latency of runs", "runs": [cell.run_id for cell in cells], **timing.facts()}
            self.watch(TimingStarted(row, base_row))
            with _named(row):
                measured = self.cache.get(specs, facts, partial(run_latency, *specs, timing, finished))
            ids = {"run_id": cells[0].run_id, "baseline_run_id": cells[1].run_id}
            yield {"variant": row, "baseline": base_row, "seed": cells[0].seed, **measured, **ids}

    def _lowest_seeds(self, rows: Set[str], runs: RunStore) -> dict[str, Cell]:
        """Return the cell with the lowest seed among the finished runs of each row.

        Raises:
            StoreError: If a row has none. The message names all such rows.
        """
        done: dict[str, Cell] = {}
        for row, cells in self.whole.rows().items():
            finished = [cell for cell in cells if row in rows and runs.state(cell.run_id) == "done"]
            if finished:
                done[row] = min(finished, key=lambda cell: cell.seed)
        if missing := [row for row in self.whole.rows() if row in rows and row not in done]:
            rule = f"train them first: ema-lab run {self.whole.name}"
            raise StoreError(f"no finished run of {', '.join(missing)} (store {runs.root}); {rule}")
        return done

    def _keys(self, macs: Convention) -> tuple[str, ...]:
        """Return the keys of the counts, and report the rules by which they are counted."""
        from ema_lab.profiling.measure import ACTIVATIONS, CONVENTIONS, KEYS

        self.watch(Remark("macs", f"for one image; {CONVENTIONS[macs]}; one multiply-add is one"))
        self.watch(Remark("", ACTIVATIONS))
        return ("parameters", "parameters_without_norm", KEYS[macs], "activations")

    def _count(self, spec: RunSpec) -> dict[str, Any]:
        from ema_lab.one_run.measurement import run_cost

        return self.cache.get((spec,), {"what": "count"}, partial(run_cost, spec))

    def _report_uncounted(self, row: str, uncounted: Mapping[str, int]) -> None:
        if uncounted:
            names = (
                f"{name} (output of {number_of(size, 'element')})" for name, size in sorted(uncounted.items())
            )
            self.watch(Remark(row, f"NOT counted, because no rule is known: {', '.join(names)}"))


@contextmanager
def _named(row: str) -> Iterator[None]:
    """Name the row in an error of its measurement."""
    try:
        yield
    except CostError as error:
        raise CostError(f"{row}: {error}") from error


def _summed(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total
