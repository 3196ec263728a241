"""Schema of an engine file, which says where runs are executed. No key of it is part of a run id."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationError, WithJsonSchema

from ema_lab.errors import DefinitionError, Problem
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import read_document
from ema_lab.specs.strict import Spec, problem

OWN_PARAMETERS = ("array", "error", "job-name", "open-mode", "output", "signal")


def _minutes(value: Any) -> Any:
    """Parse a Slurm time (minutes, hh:mm:ss or days-hh:mm:ss) and round it up to minutes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value)
    if match is None:
        raise problem(f"must be minutes, hh:mm:ss or days-hh:mm:ss, got {value!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + math.ceil(seconds / 60)


def _free_parameters(value: dict[str, Any]) -> dict[str, Any]:
    for key in value:
        if key.replace("_", "-") in OWN_PARAMETERS:
            raise problem(
                f"the engine sets {key!r} itself: remove it (the engine sets {', '.join(OWN_PARAMETERS)})"
            )
    return value


def _share_or_whole(value: float) -> float:
    if value > 1 and not float(value).is_integer():
        raise problem(f"must be a fraction of one GPU or a whole number of GPUs, got {value}")
    return value


class SlurmSpec(Spec):
    """Slurm settings: job arrays whose tasks each train `runs_per_job` runs.

    Attributes:
        engine: The constant `slurm`.
        partition: Slurm partition. None uses the cluster's default.
        time: Time limit of a job: minutes, hh:mm:ss or days-hh:mm:ss. Slurm requeues a job at its limit,
            and the job resumes from its last checkpoint.
        gpus_per_task: GPUs per job; with `--devices N`, of each of its N processes: 0 or 1.
        cpus_per_task: CPU cores per job, and torch's threads if the job has no GPU; with `--devices N`, of
            each process.
        mem_gb: Memory per job in GB, on each machine of the job. None uses the partition's default.
        array_parallelism: Maximum number of jobs that run at once.
        array_size: Maximum number of jobs in the queue, limited by the cluster's MaxArraySize.
        runs_per_job: Number of runs that one job trains in sequence.
        grace_seconds: Seconds between the stop signal and the time limit of a job.
        max_timeouts: Number of time limits that a job may reach before the engine gives up.
        poll_seconds: Interval between calls of squeue in seconds.
        setup: Shell lines that run before the job starts.
        additional: Further sbatch parameters, such as `account: vision`.
    """

    engine: Literal["slurm"]
    partition: str | None = None
    time: Annotated[
        int,
        Field(ge=1),
        BeforeValidator(_minutes),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
    ] = 60
    gpus_per_task: Annotated[int, Field(ge=0)] = 0
    cpus_per_task: Annotated[int, Field(ge=1)] = 1
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    array_parallelism: Annotated[int, Field(ge=1)] = 256
    array_size: Annotated[int, Field(ge=1)] = 1000
    runs_per_job: Annotated[int, Field(ge=1)] = 1
    grace_seconds: Annotated[int, Field(ge=1)] = 90
    max_timeouts: Annotated[int, Field(ge=0)] = 20
    poll_seconds: Annotated[float, Field(gt=0)] = 5.0
    setup: Annotated[tuple[str, ...], Strict(False)] = ()
    additional: Annotated[dict[str, str | int | float | bool], AfterValidator(_free_parameters)] = {}

    @property
    def device(self) -> str:
        """Training device: `cuda` if the file requests a GPU, else `cpu`."""
        return "cuda" if self.gpus_per_task else "cpu"

    @property
    def threads(self) -> int | None:
        """Number of torch threads per run. None keeps torch's default."""
        return None if self.gpus_per_task else self.cpus_per_task


class RaySpec(Spec):
    """Ray settings: one task per run.

    Attributes:
        engine: The constant `ray`.
        address: `auto` or HOST:PORT of a running cluster. None starts a cluster on this machine.
        num_cpus: CPU cores per run, and torch's threads if the run has no GPU; with `--devices N`, of each
            of its N processes.
        num_gpus: GPUs per run: a fraction of one GPU, such as 0.25, or a whole number; with `--devices N`, of
            each process.
        max_retries: Number of retries after a worker or node died. Every retry counts as an attempt.
    """

    engine: Literal["ray"]
    address: Annotated[str, Field(pattern=r"^(auto|[^/:\s]+:\d+)$")] | None = None
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0), AfterValidator(_share_or_whole)] = 0.0
    max_retries: Annotated[int, Field(ge=0)] = 2

    @property
    def device(self) -> str:
        """Training device: `cuda` if the file requests a GPU, else `cpu`."""
        return "cuda" if self.num_gpus else "cpu"

    @property
    def threads(self) -> int | None:
        """Number of torch threads per run. None keeps torch's default."""
        return None if self.num_gpus else max(1, int(self.num_cpus))


EngineSpec = SlurmSpec | RaySpec
ENGINES: dict[str, type[SlurmSpec | RaySpec]] = {"slurm": SlurmSpec, "ray": RaySpec}


def load_engine(path: Path) -> EngineSpec:
    """Read and check an engine file.

    Raises:
        DefinitionError: With one line per problem.
    """
    document = read_document(path)
    name = document.value.get("engine")
    if name not in ENGINES:
        missing = "engine: is missing; set it to slurm or ray" if name is None else ""
        message = missing or f"engine: {unknown_name('engine', str(name), ENGINES)}"
        raise DefinitionError([Problem(document.where(("engine",)), message)])
    try:
        return ENGINES[name].model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
