"""Costs of an ablation's models from Python: the same as the command `ema-lab cost`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import CostError, SpecError
from ema_lab.specs.run import RunSpec
from ema_lab.store.cost_cache import CostCache
from ema_lab.wording import number_of
from ema_lab.workflow.events import Remark, TimingStarted
from ema_lab.workflow.execution import DEFAULT_STORE, Watch, ignore
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.selection import Conditions, selected
from ema_lab.workflow.train.grid import check_models

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

    Raises:
        SpecError: If a number is too small.

    Example:
        >>> ema_lab.Latency(mode="training", batch=4).rounds
        40
    """

    mode: Literal["inference", "training"] = "inference"
    batch: int = 8
    rounds: int = 40
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("rounds", MIN_ROUNDS)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} must be {least} or more, got {getattr(self, name)}")


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
    root = existing_store(store).root
    whole = selected(ablation)
    chosen = selected(whole, only)
    check_models(chosen)
    cache = CostCache(root, versions(), fresh)
    measured = _Costs(chosen, whole, cache, watch)
    if latency is not None:
        rows = list(measured.timed(latency))
    elif macs == "thop":
        rows = list(measured.printed())
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

    def printed(self) -> Iterator[dict[str, Any]]:
        """Yield parameters and GFLOPs of each row as YOLOv5 prints them, and both with fused batch norms."""
        from ema_lab.one_run.measurement import printed_cost

        rule = "for one image; as thop 0.0.31 counts them on one coarse cell, scaled; two per multiply-add"
        self.watch(Remark("gflops", rule))
        for row, cells in self.chosen.rows().items():
            base = self.whole.baseline_of(cells[0])
            values: dict[str, Any] = {"variant": row}
            with _named(row):
                counts, before = (
                    self.cache.get((spec,), {"what": "printed"}, partial(printed_cost, spec))
                    if spec
                    else None
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

    def timed(self, latency: Latency) -> Iterator[dict[str, Any]]:
        """Yield the latency of each row and of its baseline, timed in turn.

        Raises:
            SpecError: If the ablation names no baseline.
        """
        from ema_lab.one_run.measurement import Timing, run_latency
        from ema_lab.training.environment import device_name
        from ema_lab.training.trainer import choose_device

        if self.whole.baseline is None:
            raise SpecError(
                f"--latency compares with the baseline, and the ablation {self.whole.name} names none"
            )
        device = choose_device(latency.device)
        timing = Timing(latency.mode, latency.batch, latency.rounds, device)
        rule = f"batches of {latency.batch}, {number_of(latency.rounds, 'round')} of A B B A, fp32"
        self.watch(Remark("", f"{latency.mode}, {rule}, {timing.threads()}, {device_name(device)}"))
        setting = {"what": "latency", **timing.facts()}
        for row, cells in self.chosen.rows().items():
            base = self.whole.baseline_of(cells[0])
            if base is None or base.spec.model_key == cells[0].spec.model_key:
                continue
            pair = (cells[0].spec, base.spec)
            self.watch(TimingStarted(row, base.row))
            with _named(row):
                measured = self.cache.get(pair, setting, partial(run_latency, *pair, timing))
            yield {"variant": row, "baseline": base.row, **measured}

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
            self.watch(Remark(row, f"NOT counted, for no rule is known: {', '.join(names)}"))


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
