"""Command `cost`: parameters, multiply-adds, the module's own share, time and memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import OutputOptions, RowOptions, expanded
from ema_lab.cli.options import MOST, AblationName, Data, Device, Store, refuse_without
from ema_lab.cli.output import print_rows
from ema_lab.tables.text import number_text
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.look.cost import MIN_ROUNDS, Convention, Latency, costs
from ema_lab.workflow.selection import selected

KEYS: Mapping[Convention, str] = {"matmul": "macs_matmul", "fvcore": "macs", "all": "macs_all"}
SCALED = ("macs", "activations")  # printed in millions


@dataclass(frozen=True)
class CountOptions:
    """Options of counting: the convention, and which counts are printed."""

    layers: Annotated[
        bool, typer.Option("--layers", help="One row per inserted module instead: its own share.")
    ] = False
    macs: Annotated[
        Convention,
        typer.Option(
            "--macs", help="Convention: matrix products; as fvcore counts; every operation; as YOLOv5 prints."
        ),
    ] = "fvcore"
    full: Annotated[
        bool, typer.Option("--full", help="Every count: also without norms, trainable, activations.")
    ] = False


@dataclass(frozen=True)
class LatencyOptions:
    """Timing in place of counting."""

    latency: Annotated[
        bool, typer.Option("--latency", help="Time every row beside its baseline instead of counting.")
    ] = False
    mode: Annotated[
        Literal["inference", "training"], typer.Option("--mode", help="With --latency: what is timed.")
    ] = "inference"
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=MOST, help="With --latency: images at a time.")
    ] = 8
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            min=MIN_ROUNDS,
            max=MOST,
            help="With --latency: each times both models twice, in turn.",
        ),
    ] = 40
    device: Device = "auto"
    trained: Annotated[
        bool,
        typer.Option("--trained", help="With --latency: time finished runs on test images, not new models."),
    ] = False
    data: Data = DEFAULT_DATA

    def request(self) -> Latency | None:
        """Return the request to time models; None without --latency.

        Raises:
            SpecError: If an option has no effect.
        """
        request = Latency(self.mode, self.batch, self.rounds, self.device, self.trained, self.data)
        if self.latency:
            return request
        changed = {
            f"--{name}": value != getattr(Latency(), name)
            for name, value in vars(request).items()
            if name != "data"
        }
        refuse_without("--latency", changed)
        return None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(cost))


def cost(
    ablation: AblationName,
    *,
    chosen: RowOptions,
    counts: CountOptions,
    timing: LatencyOptions,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the store has kept from before.")
    ] = False,
    store: Store = DEFAULT_STORE,
    output: OutputOptions,
) -> None:
    """Count parameters and MACs of every row.

    Also what each row adds to the baseline. --latency times the rows instead.

    MACs are multiply-adds for one image. --macs matmul: convolutions, linear layers and matrix products;
    fvcore: those and normalisations; all: those and an operation per element of each step of element-wise
    functions, poolings and sums. Matrix products are counted twice, by fvcore's trace and by torch's
    FLOP formulas, and must agree. thop: GFLOPs as YOLOv5 and papers on it print them, two per multiply-add,
    with and without fused batch norms. Activations are the numbers that the layers of `matmul` write.

    --latency times the baseline and a row in turn (A B B A), after warming up, and prints the median, and
    the ratio to the baseline with a 99 % interval. GPUs are timed by events; peak memory is a GPU's, with
    one model on it at a time, and a hole on a CPU, where torch keeps no such count. A detector's
    inference holds decoding and suppression (NMS). Models are timed as they start, on noise: a trained one
    may find more boxes to suppress. --trained times each row's finished run with the lowest seed, on test
    images.

    Examples: ema-lab cost quickstart; ema-lab cost quickstart --layers --only variant=ema
    """
    rows = costs(
        selected(ablation, changes=chosen.changes),
        only=chosen.only,
        layers=counts.layers,
        macs=counts.macs,
        latency=timing.request(),
        fresh=fresh,
        store=store,
        watch=Display(),
    )
    if not output.is_text or timing.latency:
        output.print(rows)
    elif counts.layers:
        print_rows([_layer_row(row) for row in rows], as_json=False)
    else:
        shown = [_count_row(row, counts.macs, full=counts.full) for row in rows]
        print_rows(shown, as_json=False, numbers=True)


def _count_row(row: Mapping[str, Any], macs: Convention, *, full: bool) -> dict[str, Any]:
    """Return a row's counts, each with its difference to the baseline, absolute and in percent."""
    shown = {"variant": row["variant"]}
    every = full or macs == "thop"
    keys = [key for key in row if f"delta_{key}" in row] if every else ["parameters", KEYS[macs]]
    for key in keys:
        label = f"MACs ({macs}, M)" if key.startswith("macs") else _label(key)
        name = label.partition(" (")[0]
        value, delta = row[key], row[f"delta_{key}"]
        shown[label] = _number(key, value)
        shown[f"Δ {name}"] = None if delta is None else _number(key, delta, "+")
        before = None if delta is None else value - delta
        shown[f"Δ {name} (%)"] = number_text(100 * delta / before, 2, "+") if before else None
    return {**shown, **({"trainable": _number("parameters", row["parameters_trainable"])} if full else {})}


def _layer_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an inserted module's counts in the units of the whole models'."""
    counts = {key for key in row if key.startswith(("parameters", *SCALED))}
    return {_label(key): _number(key, value) if key in counts else value for key, value in row.items()}


def _label(key: str) -> str:
    words = key.replace("_", " ").replace("gflops", "GFLOPs")
    return f"{key} (M)" if key.startswith(SCALED) else words


def _number(key: str, value: float, form: str = "") -> str:
    """Return a count with separated thousands; multiply-adds in millions, small ones with four digits."""
    if not key.startswith((*SCALED, "gflops")):
        return number_text(value, 0, f"{form},")
    scaled = value / 1e6 if key.startswith(SCALED) else value
    return number_text(scaled, 2 if abs(scaled) >= 0.1 or not scaled else 4, f"{form},")
