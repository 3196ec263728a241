"""The engine that the options of `run` ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.execution.engines.engine import Engine
from ema_lab.execution.engines.ray import RayEngine, import_ray
from ema_lab.execution.engines.slurm import SlurmEngine, check_slurm
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.engine import ENGINES, EngineSpec, RaySpec, load_engine

EngineName = Annotated[
    str | None, typer.Option("--engine", help="Where runs are trained: local, slurm or ray.")
]
EngineConfig = Annotated[
    Path | None, typer.Option("--engine-config", help="YAML file with the engine's options.")
]


@dataclass(frozen=True)
class Elsewhere:
    """An engine whose workers are not processes of this one.

    `options` say what a run finds there: its device and its threads.
    """

    engine: Engine
    options: EngineSpec


def choose_engine(name: str | None, config: Path | None, workers: int | None) -> Elsewhere | None:
    """Return the engine that the options ask for; None stands for workers on this machine.

    Args:
        name: `local`, `slurm` or `ray`; by default what the file says, else `local`.
        config: Its options.
        workers: Runs at one time; overrides the file.

    Raises:
        SpecError: If there is no such engine, or the file is wrong or for another one.
        EngineError: If what the engine needs is not here.
    """
    if name not in (None, "local", *ENGINES):
        raise UnknownNameError(unknown_name("engine", str(name), ("local", *ENGINES)))
    options = load_engine(config) if config else None
    if options is None and name in (None, "local"):
        return None
    options = options or ENGINES[str(name)].model_validate({"engine": name})
    if name not in (None, options.engine):
        raise SpecError(f"--engine is {name}, but {config} holds the options of {options.engine}")
    if isinstance(options, RaySpec):
        import_ray()
        return Elsewhere(RayEngine(options, workers), options)
    check_slurm()
    if workers is not None:
        options = options.model_copy(update={"array_parallelism": workers})
    return Elsewhere(SlurmEngine(options), options)
