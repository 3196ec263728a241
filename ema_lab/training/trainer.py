"""Lightning Trainer and device of a run."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from ema_lab.specs.recipe import RecipeSpec
from ema_lab.training.precision import exact_arithmetic
from ema_lab.training.ranks import OneWriter, Rank


@contextmanager
def unfilled_memory() -> Iterator[None]:
    """Let new memory be as it is, then restore torch's setting.

    Deterministic mode fills all new memory with NaN: a third more launches a step, and no other bits.
    """
    settings = torch.utils.deterministic
    before = settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before  # type: ignore[attr-defined]


def build_trainer(
    recipe: RecipeSpec,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[Callback],
    profiler: Profiler | None = None,
    rank: Rank | None = None,
) -> Trainer:
    """Build a Trainer that only trains: no logger, progress bar, sanity check or checkpoint of its own.

    `rank`: this process among several that train the run.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Vectorised code makes the batches in the main process; loader workers would be slower.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    # Batches depend on (seed, epoch, index) alone, and the loader begins where the checkpoint ended.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    exact_arithmetic()
    devices: int | list[int] = 1 if device.type == "cpu" else [device.index]
    strategy: str | Strategy = "auto"
    plugins: list[Any] = [
        LightningEnvironment()
    ]  # the engine, not Lightning, handles a Slurm job's size and signals
    if rank is not None:
        devices, strategy, plugins = rank.per_node, OneWriter(rank), []
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=rank.nodes if rank else 1,
        strategy=strategy,
        max_epochs=recipe.epochs,
        precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
        deterministic="warn",
        benchmark=False,
        callbacks=list(callbacks),
        profiler=profiler,
        default_root_dir=folder,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=plugins,
    )
