"""Command `cost`: parameters, multiply-adds, the module's own share, time and memory."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import RowOptions, expanded
from ema_lab.cli.options import MOST, AblationName, Device, Json, Store, refuse_without
from ema_lab.cli.output import print_rows
from ema_lab.workflow.cost import MIN_ROUNDS, Convention, Latency, costs
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.selection import selected

LABELS = {
    f"{prefix}{key}": f"{prefix}macs ({name})"
    for name, key in (("matmul", "macs_matmul"), ("fvcore", "macs"), ("all", "macs_all"))
    for prefix in ("", "delta_")
}


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

    def request(self) -> Latency | None:
        """Return the request to time models; None without --latency.

        Raises:
            SpecError: If an option has no effect.
        """
        request = Latency(self.mode, self.batch, self.rounds, self.device)
        if self.latency:
            return request
        changed = {f"--{name}": value != getattr(Latency(), name) for name, value in vars(request).items()}
        refuse_without("--latency", changed)
        return None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(cost))


def cost(
    ablation: AblationName,
    *,
    chosen: RowOptions,
    layers: Annotated[
        bool, typer.Option("--layers", help="One row per inserted module instead: its own share.")
    ] = False,
    macs: Annotated[
        Convention,
        typer.Option(
            "--macs", help="Convention: matrix products; as fvcore counts; every operation; as YOLOv5 prints."
        ),
    ] = "fvcore",
    timing: LatencyOptions,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the store has kept from before.")
    ] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Count parameters and MACs of every row.

    Also what each row adds to the baseline. --latency times the rows instead.

    MACs are multiply-adds for one image. --macs matmul: convolutions, linear layers and matrix products;
    fvcore: those and normalisations; all: those and an operation per element of each step of element-wise
    functions, poolings and sums. Matrix products are counted twice, by fvcore's trace and by torch's
    FlopCounterMode, and must agree. thop: GFLOPs as YOLOv5 and papers on it print them, two per multiply-add,
    with and without fused batch norms. Activations are the numbers that the layers of `matmul` write.

    --latency times the baseline and a row in turn (A B B A), after warming up, and prints the median, and
    the ratio to the baseline with a 99 % interval. GPUs are timed by events; peak memory is a GPU's, with
    one model on it at a time, and a hole on a CPU, where torch keeps no such count.

    Example: ema-lab cost quickstart --layers --only variant=ema
    """
    rows = costs(
        selected(ablation, changes=chosen.changes),
        only=chosen.only,
        layers=layers,
        macs=macs,
        latency=timing.request(),
        fresh=fresh,
        store=store,
        watch=Display(),
    )
    print_rows(rows, as_json=as_json, labels=LABELS)
