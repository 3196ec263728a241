"""Seconds of an epoch on digits: of a bare loop, plain Lightning, and a run. `step.py` prints them."""

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine
from ema_lab.training.run import train

EPOCHS, TURNS = 4, 3  # of each contender; its first epoch of a turn is not counted
IMAGES, BATCH = 1437, 128  # of digits: the size of the training split
Contender = Callable[[RunSpec, torch.device], list[float]]


def epoch_row(attention: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Time the epochs of each contender, which take turns; print and return their medians."""
    spec = _spec(attention)
    contenders: dict[str, Contender] = {"bare": _bare, "lightning": _lightning, "ours": _ours}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, contender in contenders.items():
            stamps = contender(spec, device)
            seconds[name] += [end - begin for begin, end in pairwise(stamps[1:])]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = {name: min(values) for name, values in seconds.items()}
    row = {
        "epoch": "digits",
        "attention": attention["name"],
        "seconds": medians,
        "ratio": {name: medians[name] / medians["bare"] for name in medians},
        "ratio_of_minima": {name: fastest[name] / fastest["bare"] for name in fastest},
    }
    ratios = "  ".join(f"{name} {row['ratio'][name]:.3f}" for name in ("lightning", "ours"))
    print(f"epoch of digits, {attention['name']}: bare {medians['bare']:.3f} s; x bare: {ratios}", flush=True)
    return row


def _spec(attention: dict[str, Any]) -> RunSpec:
    return RunSpec.model_validate(
        {
            "model": {"backbone": "resnet20", "attention": attention},
            "data": {"name": "digits"},
            "recipe": {
                "epochs": EPOCHS,
                "batch_size": BATCH,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
            },
            "seed": 0,
        }
    )


def _now(device: torch.device) -> float:
    """Return CPU seconds of this process for one thread, else seconds of the clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if is_alone else time.perf_counter()


def _data(device: torch.device) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 1, 8, 8, generator=noise)
    return images.to(device), (torch.arange(IMAGES) % 10).to(device)


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)


def _bare(spec: RunSpec, device: torch.device) -> list[float]:
    """Train by the loop that one would write by hand, on images in memory; return the times of epoch ends."""
    images, targets = _data(device)
    model = build_model(spec).to(device).train()
    optimizer = _optimizer(model)
    stamps = [_now(device)]
    for _ in range(EPOCHS):
        for indices in torch.randperm(IMAGES, device=device).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[indices]), targets[indices]).backward()
            optimizer.step()
        stamps.append(_now(device))
    return stamps


class _Plain(LightningModule):
    """Module as in Lightning's first tutorial, with a note of the time after each epoch."""

    def __init__(self, model: nn.Module, stamps: list[float]) -> None:
        super().__init__()
        self.model = model
        self.stamps = stamps

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return _optimizer(self.model)

    def on_train_epoch_end(self) -> None:
        self.stamps.append(_now(self.device))


def _lightning(spec: RunSpec, device: torch.device) -> list[float]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    stamps = [_now(device)]
    loader = DataLoader(TensorDataset(*_data(torch.device("cpu"))), batch_size=BATCH, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers of the loader
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_Plain(build_model(spec), stamps), loader)
    return stamps


def _ours(spec: RunSpec, device: torch.device) -> list[float]:
    """Train a run as `ema-lab run` does, with its curve and its checkpoint after each epoch."""
    stamps = [_now(device)]
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), device.type, torch.get_num_threads())
        train(spec, RunJob(Path(folder)), machine, lambda row: stamps.append(_now(device)))
    return stamps
