"""Numbers of processes: of loaders of image files, and of runs at the same time.

    python benchmarks/workers.py [--rounds 3] [--images 256] [--runs 6] [--epochs 10]

The loader of a run on photographs is read once alone, as by a training on a GPU, and once beside training
steps of a small model in the main process. `ema-lab run` trains short runs on digits by 1 worker and more, up
to twice the cores, each number with a store of its own; the start of the command counts. Numbers take turns
within a round. The last line is the same figures as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from commands import EMA_LAB
from loader import MEAN, STD, ours, write_photographs
from torch import nn
from torch.utils.data import DataLoader

from ema_lab.data.memory import standardised
from ema_lab.execution.threads import available_cores
from ema_lab.training.environment import processor, versions

RUNS = """\
name: short
base:
  model: {{backbone: resnet20, attention: none}}
  data: {{name: digits}}
  recipe: {{use: digits-quick, epochs: {epochs}}}
seeds: {runs}
variants: {{plain: {{}}}}
"""
LOADER_WORKERS = (0, 1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10, help="of each run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*DataLoader will create.*")
    tables: dict[str, dict[int, float]] = {}

    def measure(title: str, amount: int, passes: Mapping[int, Callable[[], None]], *, warm: bool) -> None:
        seconds = in_turns(passes, arguments.rounds, warm=warm)
        tables[title] = {number: amount / each for number, each in seconds.items()}
        print(
            title, *(f"{number}: {rate:.2f}" for number, rate in tables[title].items()), sep="   ", flush=True
        )

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photographs").mkdir()
        write_photographs(folder / "photographs", arguments.images)
        loaders = {workers: ours(folder / "photographs", workers) for workers in LOADER_WORKERS}
        for title, model in (("alone", None), ("beside training", _small_model())):
            passes = {number: _pass(loader, model) for number, loader in loaders.items()}
            measure(f"loader workers, images/s {title}", arguments.images, passes, warm=True)
        cores = available_cores()
        write_runs(folder, arguments.runs, arguments.epochs)
        runs = {number: _trained(folder, number) for number in sorted({1, cores, cores + 1, 2 * cores})}
        measure("workers, runs/s on digits", arguments.runs, runs, warm=False)
    facts = {"cores": cores, "load": os.getloadavg()[0], "device": processor()}
    print(json.dumps({**tables, **facts, "versions": versions()}))


def in_turns(passes: Mapping[int, Callable[[], None]], rounds: int, *, warm: bool = True) -> dict[int, float]:
    """Return the median seconds of each pass; a first round fills the caches and is not counted."""
    seconds: dict[int, list[float]] = {number: [] for number in passes}
    for round_number in range(rounds + warm):
        for number, read in passes.items():
            began = time.perf_counter()
            read()
            if round_number or not warm:
                seconds[number].append(time.perf_counter() - began)
    return {number: statistics.median(times) for number, times in seconds.items()}


def _small_model() -> nn.Module:
    """Return a model whose step takes about as long as reading an image."""
    layers: Sequence[nn.Module] = (
        nn.Conv2d(3, 16, 7, stride=4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    return nn.Sequential(*layers)


def _pass(loader: DataLoader, model: nn.Module | None) -> Callable[[], None]:
    """Return a function that reads an epoch, and trains a model on it if there is one."""
    mean, std = (255 * torch.tensor(values).reshape(1, -1, 1, 1) for values in (MEAN, STD))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01) if model is not None else None

    def read() -> None:
        for images, labels, _ in loader:
            if model is None or optimizer is None:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(standardised(images, mean, std)), labels).backward()
            optimizer.step()

    return read


def write_runs(folder: Path, runs: int, epochs: int) -> None:
    """Write an ablation of short runs on digits."""
    (folder / "short.yaml").write_text(RUNS.format(epochs=epochs, runs=list(range(runs))), encoding="utf-8")


def _trained(folder: Path, workers: int) -> Callable[[], None]:
    """Return a function that trains the short runs in a new store."""

    def train() -> None:
        with tempfile.TemporaryDirectory() as store:
            words = ["run", "short.yaml", "--workers", str(workers), "--threads", "1", "--store", store]
            subprocess.run([*EMA_LAB, *words], check=True, capture_output=True, cwd=folder)

    return train


if __name__ == "__main__":
    main()
