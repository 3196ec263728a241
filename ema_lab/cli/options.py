"""Options that several commands share, each declared once with its name and help text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.attention.kernels.choice import VARIABLE
from ema_lab.errors import SpecError
from ema_lab.execution.threads import MOST_PROCESSES

MOST = 1_000_000  # of what only has to be a possible number: anything above is a typing error

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array of flat objects instead.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV instead.")]
Store = Annotated[
    Path, typer.Option("--store", envvar="EMA_LAB_STORE", help="Folder of the runs.", show_default=True)
]
Data = Annotated[
    Path, typer.Option("--data", envvar="EMA_LAB_DATA", help="Folder of the data sets.", show_default=True)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
LoaderWorkers = Annotated[
    int | None,
    typer.Option(
        "--loader-workers",
        min=0,
        max=MOST_PROCESSES,
        help="Processes per run that decode images; by default the free cores beside a GPU, else none.",
    ),
]
Track = Annotated[
    str | None, typer.Option("--track", help="Mirror the runs live: wandb, tensorboard or mlflow.")
]
AblationName = Annotated[str, typer.Argument(help="A path, or a name as listed by `ema-lab list ablations`.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="KEY=VALUE",
        help="Only these cells: variant=se,ema, seed=0, or a row as tables print it; may be repeated.",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N|0,2", help="Only the first N seeds of the file, or the listed ones."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the file's base: recipe.epochs=1; may be repeated."
    ),
]
Attempts = Annotated[
    int, typer.Option("--max-attempts", min=1, max=MOST, help="Attempts before a failing run is left alone.")
]
NumThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=MOST_PROCESSES,
        help="Threads of torch in each run; by default the number that `plan` prints, for all runs alike.",
    ),
]
AttentionKernel = Annotated[
    str | None,
    typer.Option(
        "--attention-kernel",
        metavar="NAME",
        envvar=VARIABLE,
        help="Kernel of EMA, CA, CBAM, triplet and SA: exact, triton or auto is faster; formula, the "
        "default, keeps all bits.",
    ),
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="Where runs are trained: local, slurm or ray.")
]
EngineConfig = Annotated[
    Path | None, typer.Option("--engine-config", help="YAML file with the engine's options.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST_PROCESSES,
        help="Processes; by default as many as fit the cores, or the GPUs.",
    ),
]
SweepName = Annotated[str, typer.Argument(help="A path, or a name as listed by `ema-lab list sweeps`.")]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        metavar="NAME:max|min",
        help="Objective, such as top1:max or macs:min; may be repeated.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Keep trials in postgresql+psycopg://USER@HOST/DB or grpc://HOST:PORT, not in a journal.",
    ),
]


def refuse_without(option: str, dependent: Mapping[str, bool]) -> None:
    """Refuse options that have no effect without another option.

    Args:
        option: The missing option.
        dependent: Whether each dependent option was set, by its name.

    Raises:
        SpecError: If any was set.
    """
    for name, is_set in dependent.items():
        if is_set:
            raise SpecError(f"{name} changes nothing without {option}")
