"""The command about costs: parameters, multiply-adds, the module's own share, time and memory."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import typer

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.cli.options import AblationName, Device, Json, Only, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import CostError, SpecError
from ema_lab.specs.run import RunSpec
from ema_lab.store.cost_cache import CostCache
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.grid import check_models
from ema_lab.workflow.selection import selected

Convention = Literal["matmul", "fvcore", "all"]
LABELS = {
    f"{prefix}{key}": f"{prefix}macs ({name})"
    for name, key in (("matmul", "macs_matmul"), ("fvcore", "macs"), ("all", "macs_all"))
    for prefix in ("", "delta_")
}
LATENCY_ONLY = {"mode": "inference", "batch": 8, "rounds": 40, "device": "auto"}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(cost)


def cost(
    ablation: AblationName,
    only: Only = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="One row per inserted module instead: its own share.")
    ] = False,
    macs: Annotated[
        Convention,
        typer.Option("--macs", help="What counts: matrix products; as fvcore counts; every operation."),
    ] = "fvcore",
    latency: Annotated[
        bool, typer.Option("--latency", help="Time every row beside its baseline instead of counting.")
    ] = False,
    mode: Annotated[
        Literal["inference", "training"], typer.Option("--mode", help="With --latency: what is timed.")
    ] = "inference",
    batch: Annotated[int, typer.Option("--batch", min=1, help="With --latency: images at a time.")] = 8,
    rounds: Annotated[
        int, typer.Option("--rounds", min=8, help="With --latency: each times both models twice, in turn.")
    ] = 40,
    device: Device = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the store has kept from before.")
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Count parameters and MACs of every row, and what each adds to the baseline; or time the rows.

    MACs are multiply-adds for one image. --macs matmul: convolutions, linear layers and matrix products;
    fvcore: those and normalisations; all: those and an operation per element of each step of element-wise
    functions, poolings and sums. Matrix products are counted twice, by fvcore's trace and by torch's
    FlopCounterMode, and must agree. Activations are the numbers that the layers of `matmul` write.

    --latency times the baseline and a row in turn (A B B A), after warming up, and prints the median, and
    the ratio to the baseline with a 99 % interval. GPUs are timed by events; peak memory is a GPU's, with
    one model on it at a time, and a hole on a CPU, where torch keeps no such count.

    Example: ema-lab cost quickstart --layers --only variant=ema
    """
    chosen = selected(ablation, only, None)
    _refuse_idle_options(latency, layers, {"mode": mode, "batch": batch, "rounds": rounds, "device": device})
    check_models(chosen)
    cache = _cache(store, fresh)
    whole = load_ablation(ablation)  # --only may have left the baseline out
    if latency:
        rows = list(_timed(chosen, whole, cache, mode, batch, rounds, device))
    elif layers:
        rows = list(_layers(chosen, cache, macs))
    else:
        rows = list(_counted(chosen, whole, cache, macs))
    print_rows(rows, as_json=as_json, labels=LABELS)


def _refuse_idle_options(latency: bool, layers: bool, given: Mapping[str, Any]) -> None:
    if latency and layers:
        raise SpecError("--latency times whole models: it does not go with --layers")
    idle = [name for name, value in given.items() if value != LATENCY_ONLY[name] and not latency]
    if idle:
        raise SpecError(f"--{idle[0]} changes nothing without --latency")


def _cache(store: Any, fresh: bool) -> CostCache:
    from ema_lab.training.environment import versions

    return CostCache(store, versions(), fresh)


def _counted(
    chosen: Ablation, whole: Ablation, cache: CostCache, macs: Convention
) -> Iterator[dict[str, Any]]:
    from ema_lab.cost.measure import ACTIVATIONS, CONVENTIONS, KEYS

    say(f"macs: for one image; {CONVENTIONS[macs]}; one multiply-add is one", ACTIVATIONS)
    keys = ("parameters", "parameters_without_norm", KEYS[macs], "activations")
    for row, cells in chosen.rows().items():
        with _named(row):
            counted = _count(cache, cells[0].spec)
        base = whole.baseline_of(cells[0])
        before = _count(cache, base.spec) if base else None
        values: dict[str, Any] = {"variant": row}
        for key in keys:
            values[key] = counted[key]
            values[f"delta_{key}"] = counted[key] - before[key] if before else None
        values["parameters_trainable"] = counted["parameters_trainable"]
        _say_uncounted(row, counted["uncounted"])
        yield values


@contextmanager
def _named(row: str) -> Iterator[None]:
    """Say which row an error is about."""
    try:
        yield
    except CostError as error:
        raise CostError(f"{row}: {error}") from error


def _say_uncounted(row: str, uncounted: Mapping[str, int]) -> None:
    if uncounted:
        found = ", ".join(f"{name} (output of {n:,} elements)" for name, n in sorted(uncounted.items()))
        say(f"{row}: NOT counted, for no rule is known: {found}")


def _count(cache: CostCache, spec: RunSpec) -> dict[str, Any]:
    from ema_lab.one_run.measurement import run_cost

    return cache.get((spec,), {"what": "count"}, partial(run_cost, spec))


def _layers(chosen: Ablation, cache: CostCache, macs: Convention) -> Iterator[dict[str, Any]]:
    from ema_lab.cost.measure import ACTIVATIONS, CONVENTIONS, KEYS
    from ema_lab.one_run.measurement import layer_costs

    say(f"macs: for one image; {CONVENTIONS[macs]}; one multiply-add is one", ACTIVATIONS)
    keys = ("parameters", "parameters_without_norm", KEYS[macs], "activations")
    for row, cells in chosen.rows().items():
        spec = cells[0].spec
        with _named(row):
            found = cache.get((spec,), {"what": "layers"}, partial(layer_costs, spec))
        unknown: Counter[str] = Counter()
        for share in found.values():
            unknown.update(share["uncounted"])
        _say_uncounted(row, unknown)
        for name, share in found.items():
            kept = {key: share[key] for key in ("attention", "channels", "height", "width", *keys)}
            yield {"variant": row, "layer": name, **kept}
        if found:
            sums = {key: sum(share[key] for share in found.values()) for key in keys}
            blank = dict.fromkeys(("attention", "channels", "height", "width"))
            yield {"variant": row, "layer": "sum", **blank, **sums}


def _timed(
    chosen: Ablation,
    whole: Ablation,
    cache: CostCache,
    mode: Literal["inference", "training"],
    batch: int,
    rounds: int,
    device: str,
) -> Iterator[dict[str, Any]]:
    from ema_lab.one_run.measurement import Timing, run_latency
    from ema_lab.training.environment import device_name
    from ema_lab.training.trainer import choose_device

    if whole.baseline is None:
        raise SpecError(f"--latency compares with the baseline, and the ablation {whole.name} names none")
    on = choose_device(device)
    timing = Timing(mode, batch, rounds, on)
    say(
        f"{mode}, batches of {batch}, {rounds} rounds of A B B A, fp32, {timing.threads()}, {device_name(on)}"
    )
    how = {"what": "latency", **timing.facts()}
    for row, cells in chosen.rows().items():
        base = whole.baseline_of(cells[0])
        if base is None or base.spec.model_key == cells[0].spec.model_key:
            continue
        pair = (cells[0].spec, base.spec)
        say(f"timing {row} beside {base.row}")
        with _named(row):
            measured = cache.get(pair, how, partial(run_latency, *pair, timing))
        yield {"variant": row, "baseline": base.row, **measured}
