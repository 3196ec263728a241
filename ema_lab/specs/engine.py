"""The form of an engine file: where runs are executed. Nothing of it is part of a run."""

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
    """Read a time as Slurm does, rounded up to minutes: minutes, hh:mm:ss or days-hh:mm:ss."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value)
    if found is None:
        raise problem(f"must be minutes, hh:mm:ss or days-hh:mm:ss, got {value!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes + math.ceil(seconds / 60)


def _free_parameters(value: dict[str, Any]) -> dict[str, Any]:
    for key in value:
        if key.replace("_", "-") in OWN_PARAMETERS:
            raise problem(f"{key!r} is set by the engine itself; it sets {', '.join(OWN_PARAMETERS)}")
    return value


def _share_or_whole(value: float) -> float:
    if value > 1 and not float(value).is_integer():
        raise problem(f"must be a share of one GPU or a whole number, got {value}")
    return value


class SlurmSpec(Spec):
    """Jobs on a Slurm cluster: arrays whose tasks each train `runs_per_job` runs.

    Attributes:
        engine: The word `slurm`.
        partition: Where to queue; None takes the cluster's default.
        time: Limit of a job: minutes, hh:mm:ss or days-hh:mm:ss. A job that reaches it is requeued and
            goes on from its last finished epoch.
        gpus_per_task: GPUs of a job.
        cpus_per_task: Cores of a job; without a GPU also torch's threads.
        mem_gb: Memory of a job in GB; None takes the partition's default.
        array_parallelism: Jobs that run at one time.
        array_size: Jobs queued at one time; a cluster's MaxArraySize limits it.
        runs_per_job: Runs that one job trains after each other.
        grace_seconds: How long before its end a job is told to stop.
        max_timeouts: How often a job may reach its time limit before it is given up.
        poll_seconds: How often squeue is asked.
        setup: Shell lines before the work begins.
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
        """What a run is trained on: a GPU that was asked for is used, one that was not is left alone."""
        return "cuda" if self.gpus_per_task else "cpu"

    @property
    def threads(self) -> int | None:
        """Threads that a run may use; None leaves them to torch."""
        return None if self.gpus_per_task else self.cpus_per_task


class RaySpec(Spec):
    """Tasks on a Ray cluster.

    Attributes:
        engine: The word `ray`.
        address: `auto` or HOST:PORT of a cluster that runs; None starts one on this machine.
        num_cpus: Cores of a run; without a GPU also torch's threads.
        num_gpus: GPUs of a run: a share of one, such as 0.25, or a whole number.
        max_retries: How often a run is tried again elsewhere after its worker or node died; every try
            is an attempt.
    """

    engine: Literal["ray"]
    address: Annotated[str, Field(pattern=r"^(auto|[^/:\s]+:\d+)$")] | None = None
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0), AfterValidator(_share_or_whole)] = 0.0
    max_retries: Annotated[int, Field(ge=0)] = 2

    @property
    def device(self) -> str:
        """What a run is trained on: a GPU that was asked for is used, one that was not is left alone."""
        return "cuda" if self.num_gpus else "cpu"

    @property
    def threads(self) -> int | None:
        """Threads that a run may use; None leaves them to torch."""
        return None if self.num_gpus else max(1, int(self.num_cpus))


EngineSpec = SlurmSpec | RaySpec
ENGINES: dict[str, type[SlurmSpec | RaySpec]] = {"slurm": SlurmSpec, "ray": RaySpec}


def load_engine(path: Path) -> EngineSpec:
    """Read and check an engine file.

    Raises:
        DefinitionError: With a line per problem.
    """
    document = read_document(path)
    name = document.value.get("engine")
    if name not in ENGINES:
        words = "engine: is missing; it is slurm or ray" if name is None else ""
        message = words or f"engine: {unknown_name('engine', str(name), ENGINES)}"
        raise DefinitionError([Problem(document.where(("engine",)), message)])
    try:
        return ENGINES[name].model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
