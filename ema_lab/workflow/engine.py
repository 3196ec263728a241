"""Choice of the engine that trains runs, from its name and its file of options."""

from dataclasses import dataclass
from pathlib import Path

from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.execution.engines.engine import Engine
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.engine import ENGINES, EngineSpec, RaySpec, load_engine
from ema_lab.store.job import Join


@dataclass(frozen=True)
class Elsewhere:
    """An engine whose workers are not child processes of this one, such as a cluster.

    `options` hold the device and the threads of a run on that engine.
    """

    engine: Engine
    options: EngineSpec


def choose_engine(
    name: str | None, config: Path | None, workers: int | None, devices: int = 1, nodes: int = 1
) -> Elsewhere | None:
    """Return the requested engine; None means workers on this machine.

    Args:
        name: `local`, `slurm` or `ray`; None takes the file's engine, else `local`.
        config: YAML file with its options.
        workers: Runs at the same time; overrides the file.
        devices: Processes that train a run together on each machine; each gets the resources that the file
            names.
        nodes: Machines that train a run together.

    Raises:
        SpecError: If no engine has that name, or the file is wrong or belongs to another engine.
        EngineError: If a package that the engine needs is not installed.
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
        from ema_lab.execution.engines.ray import RayEngine, import_ray

        import_ray()
        if devices > 1 and options.num_gpus % 1:
            raise SpecError(f"--devices {devices} needs whole GPUs, got num_gpus: {options.num_gpus}")
        cpus, gpus = options.num_cpus * devices, options.num_gpus * devices
        of_run = options.model_copy(update={"num_cpus": cpus, "num_gpus": gpus})
        return Elsewhere(RayEngine(of_run, workers, nodes, _join(nodes)), options)
    from ema_lab.execution.engines.slurm import SlurmEngine, check_slurm

    check_slurm()
    if workers is not None:
        options = options.model_copy(update={"array_parallelism": workers})
    gpus, cpus = options.gpus_per_task * devices, options.cpus_per_task * devices
    of_job = options.model_copy(update={"gpus_per_task": gpus, "cpus_per_task": cpus})
    return Elsewhere(SlurmEngine(of_job, nodes, _join(nodes)), options)


def _join(nodes: int) -> Join | None:
    """Return what trains the part of each machine but the first; None if there is no other one."""
    if nodes == 1:
        return None
    from ema_lab.one_run.node import join_run

    return join_run
