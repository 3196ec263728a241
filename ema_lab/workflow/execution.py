"""Settings of execution: workers, device, engine, store, data. None of them is part of a run."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ema_lab.attention.kernels.choice import check_kernel
from ema_lab.errors import SpecError
from ema_lab.execution.threads import MOST_PROCESSES
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.workflow.base_event import Event

if TYPE_CHECKING:
    from ema_lab.workflow.engine import Elsewhere

DEFAULT_STORE = Path("runs")
DEFAULT_DATA = Path("data")
RANK_TIMEOUT = 1800.0
Watch = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Ignore an event: the default observer."""


class ExecutionOptions(TypedDict, total=False):
    """Keyword arguments with which `Execution` is built; each has the default of its field there."""

    workers: int | None
    device: str
    track: str | None
    max_attempts: int
    store: Path | str
    data: Path | str
    loader_workers: int | None
    timeout: float | None
    gpu_slots: int
    refresh: bool
    engine: str | None
    engine_config: Path | None
    threads: int | None
    attention_kernel: str | None
    profile: bool
    checkpoint_minutes: float
    stop_after: float | None
    devices: int
    nodes: int
    rank_timeout: float


@dataclass(frozen=True)
class Execution:
    """Settings of execution, none of them part of a run.

    Attributes:
        workers: Runs trained at the same time; None takes as many as fit the cores, or the GPUs.
        device: "auto", "cpu" or "cuda".
        track: "wandb", "tensorboard" or "mlflow" mirrors the runs live.
        max_attempts: Failed or killed attempts after which a run is left alone.
        store: Folder of the runs.
        data: Folder of the data sets.
        loader_workers: Processes per run that decode images; None takes the free cores beside a GPU.
        timeout: Seconds after which a run is stopped and counts as failed.
        gpu_slots: Runs trained at the same time on each GPU.
        refresh: Train stale results again; the old ones are kept in the run's folder.
        engine: "local", "slurm" or "ray"; None takes what `engine_config` says, else "local".
        engine_config: YAML file with the options of the engine.
        threads: Threads of torch in each run; None takes the number that the ablation has in this store.
        attention_kernel: Key of `KERNELS` (`ema_lab.attention.kernels.choice`); None is the formula.
        profile: Write where each run's time went, and a trace of a few steps, to its folder.
        checkpoint_minutes: Minutes between checkpoints within an epoch; 0 saves at the ends of epochs alone.
        stop_after: Seconds after which the runs save their checkpoints and stop; they stay pending.
        devices: Processes that train each run together, each on a GPU of its own or with threads of its own.
        nodes: Machines that train each run together, each with as many processes.
        rank_timeout: Seconds that one of these processes waits for the others before the attempt fails.

    Raises:
        SpecError: If options contradict each other, or a number is out of range.
        EngineError: If what the engine needs is not installed.
    """

    workers: int | None = None
    device: str = "auto"
    track: str | None = None
    max_attempts: int = MAX_ATTEMPTS
    store: Path | str = DEFAULT_STORE
    data: Path | str = DEFAULT_DATA
    loader_workers: int | None = None
    timeout: float | None = None
    gpu_slots: int = 1
    refresh: bool = False
    engine: str | None = None
    engine_config: Path | None = None
    threads: int | None = None
    attention_kernel: str | None = None
    profile: bool = False
    checkpoint_minutes: float = 10.0
    stop_after: float | None = None
    devices: int = 1
    nodes: int = 1
    rank_timeout: float = RANK_TIMEOUT
    _began: float = field(default_factory=time.time, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        smallest = {
            "workers": 1,
            "threads": 1,
            "max_attempts": 1,
            "gpu_slots": 1,
            "loader_workers": 0,
            "devices": 1,
            "nodes": 1,
        }
        for name, least in smallest.items():
            value = getattr(self, name)
            most = sys.maxsize if name == "max_attempts" else MOST_PROCESSES
            if value is not None and not least <= value <= most:
                raise SpecError(f"{name} must be from {least} to {most:,}, got {value}")
        if self.attention_kernel is not None:
            check_kernel(self.attention_kernel)
        if self.timeout is not None and self.timeout <= 0:
            raise SpecError(f"timeout must be above zero seconds, got {self.timeout}")
        if self.checkpoint_minutes < 0:
            raise SpecError(f"checkpoint_minutes must be zero or more, got {self.checkpoint_minutes}")
        if self.stop_after is not None and self.stop_after <= 0:
            raise SpecError(f"stop_after must be above zero seconds, got {self.stop_after}")
        if self.rank_timeout <= 0:
            raise SpecError(f"rank_timeout must be above zero seconds, got {self.rank_timeout}")
        if self.nodes > 1 and self.elsewhere is None and (self.workers or self.gpu_slots) > 1:
            raise SpecError("--nodes trains one run at a time here; leave out --workers and --gpu-slots")
        if self.devices * self.nodes == 1 and self.rank_timeout != RANK_TIMEOUT:
            raise SpecError("--rank-timeout changes nothing without --devices or --nodes")
        if self.elsewhere is not None and self.stop_after is not None:
            rule = "the cluster's own time limit stops and requeues jobs; put `time` into --engine-config"
            raise SpecError(f"--stop-after is for workers here: {rule}")
        if self.elsewhere is not None and (self.timeout is not None or self.gpu_slots > 1):
            raise SpecError("--timeout and --gpu-slots are for workers here; put limits into --engine-config")

    @cached_property
    def elsewhere(self) -> "Elsewhere | None":
        """The engine whose workers are not processes of this one; None trains on this machine."""
        from ema_lab.workflow.engine import (
            choose_engine,
        )  # `status` and others that start none need no engine

        return choose_engine(self.engine, self.engine_config, self.workers, self.devices, self.nodes)

    @property
    def stop_at(self) -> float:
        """Time, in seconds since 1970, at which the runs stop; infinite without `stop_after`."""
        return math.inf if self.stop_after is None else self._began + self.stop_after

    def refuse_for_runs_alone(self, command: str) -> None:
        """Raise a `SpecError` if a search is asked for what only `run` can do."""
        if self.devices > 1:
            raise SpecError(f"devices is for run: {command} trains each trial on one device")
        if self.nodes > 1:
            raise SpecError(f"nodes is for run: {command} trains each trial on one device")
        if self.stop_after is not None:
            raise SpecError(f"stop_after changes nothing in {command}; Ctrl-C stops it, and it goes on later")

    @property
    def run_store(self) -> RunStore:
        """The store in which runs are claimed and recorded."""
        return RunStore(Path(self.store))

    @property
    def data_folder(self) -> Path:
        """Absolute path of the data sets' folder."""
        return Path(self.data).absolute()
