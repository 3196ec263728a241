"""Machine settings of a run: device, threads and processes, none of which is part of its spec.

This module loads without Lightning, so that a process that only hands runs to others starts sooner.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ema_lab.data.share import LEAST_IMAGES
from ema_lab.errors import SpecError
from ema_lab.specs.run import RunSpec

CHECKPOINT_MINUTES = 10.0
RANK_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Machine:
    """Execution settings of a run, none of which is part of the run spec.

    Attributes:
        data_root: Folder of the data sets.
        device: `auto`, `cpu` or `cuda`.
        num_threads: Number of torch's threads; None keeps torch's default.
        loader_workers: Number of processes that prepare batches; None takes those of `cores` that are free
            beside a GPU, for image files, and none on a CPU.
        attention_kernel: Kernel of attention modules, chosen by `train_run`; None is the formula.
        checkpoint_minutes: Minutes between checkpoints within an epoch; 0 saves at the ends of epochs alone.
        stop_at: Time, in seconds since 1970, at which a run saves its checkpoint and stops.
        profile: Whether to write where the time went.
        devices: Number of processes that train the run together, each on a device of its own; with several
            machines, on each of them.
        rank_timeout: Seconds that one of them waits for the others before the attempt fails.
        nodes: Number of machines.
        cores: Cores that each process of the run has to itself; 0 if that is not known.
    """

    data_root: Path = field(default_factory=lambda: Path("data"))
    device: str = "auto"
    num_threads: int | None = None
    loader_workers: int | None = None
    attention_kernel: str | None = None
    profile: bool = False
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    stop_at: float = math.inf
    devices: int = 1
    rank_timeout: float = RANK_TIMEOUT
    nodes: int = 1
    cores: int = 0

    @property
    def world(self) -> int:
        """Number of processes on all machines."""
        return self.devices * self.nodes

    def kernel_for(self, spec: RunSpec) -> str | None:
        """Return the attention kernel of a run: the formula for compiled models, which have no other."""
        return self.attention_kernel if spec.recipe.compile == "off" else "formula"


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda` on this machine.

    Raises:
        SpecError: If the name is unknown, or this machine has no CUDA device.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise SpecError(f"the device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("the device cuda was requested, but torch finds no CUDA device here; use cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def check_devices(spec: RunSpec, devices: int, nodes: int = 1) -> None:
    """Check that a run's batches can be shared by some devices on each of some machines.

    Raises:
        SpecError: If they cannot.
    """
    world = devices * nodes
    if world == 1:
        return
    size = spec.recipe.batch_size
    if size % world or size < LEAST_IMAGES * world:
        options = f"--devices {devices}" + (f" --nodes {nodes}" if nodes > 1 else "")
        multiple = "it" if nodes == 1 else f"{world}"
        rule = f"a multiple of {multiple}, at least {LEAST_IMAGES * world}"
        raise SpecError(f"{options} needs a recipe.batch_size that is {rule}, got {size}")
    if spec.recipe.sync_batch_norm and spec.recipe.compile != "off":
        raise SpecError("recipe.sync_batch_norm is not compiled on several devices: set compile: off")
