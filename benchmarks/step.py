"""Milliseconds of a training step, beside the loop that one would write by hand.

    python benchmarks/step.py [--rounds 20] [--threads 1] [--device cpu]

The bare loop is the baseline of the ratios: the same model and optimizer, forward, cross-entropy, backward
and update, with nothing else. Steps of both loops alternate, so that a busy machine slows both. `Trainer` is
the whole of a run's training: Lightning's loop, batches, augmentation and normalisation. Operators are
counted by torch's profiler. The last lines are the same figures as JSON, one object per row.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.tasks.task import load_task
from ema_lab.training.environment import environment
from ema_lab.training.run import Machine, train
from ema_lab.training.step import Step
from ema_lab.training.trainer import choose_device

SHAPES = [  # backbone, image size, batch size, groups of EMA
    ("resnet20", 8, 128, 8),
    ("resnet20", 28, 128, 8),
    ("resnet50", 32, 32, 32),
]
STEPS_OF_A_RUN = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    rows = []
    titles = ("backbone", "attention", "image", "batch", "bare ms", "step", "Trainer", "operators", "bare")
    print("{:<10}{:<11}{:>6}{:>6}{:>9}{:>8}{:>9}{:>11}{:>7}".format(*titles))
    for backbone, size, batch_size, groups in SHAPES:
        for attention in ({"name": "none"}, {"name": "ema", "groups": groups}):
            row = measured(spec_of(backbone, attention, size, batch_size), device, arguments.rounds)
            rows.append(
                {"backbone": backbone, "attention": attention["name"], "image": size, "batch": batch_size}
                | row
            )
            print(
                f"{backbone:<10}{attention['name']:<11}{size:>6}{batch_size:>6}{row['bare_ms']:>9.1f}"
                f"{row['step_ratio']:>8.3f}{row['trainer_ratio']:>9.3f}{row['operators']:>11}{row['bare_operators']:>7}"
            )
    machine = environment(device, spec_of("resnet20", {"name": "none"}, 8, 8).recipe)
    print(f"ratios to the bare loop; {machine['device']}, {arguments.threads} thread(s)")
    for row in rows:
        print(json.dumps(row | {"device": machine["device"], "versions": machine["versions"]}))


def spec_of(backbone: str, attention: dict[str, Any], size: int, batch_size: int) -> RunSpec:
    """Return a run of one epoch on synthetic images."""
    stem = {"stem": "cifar"} if backbone == "resnet50" else {}
    return RunSpec.model_validate(
        {
            "model": {"backbone": backbone, "attention": attention, **stem},
            "data": {
                "name": "synthetic",
                "image_size": size,
                "train_images": STEPS_OF_A_RUN * batch_size,
                "test_images": 10,
            },
            "recipe": {
                "epochs": 1,
                "batch_size": batch_size,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
                "augment": {"crop_padding": 2, "flip": True},
            },
            "seed": 0,
        }
    )


def measured(spec: RunSpec, device: torch.device, rounds: int) -> dict[str, Any]:
    """Time both loops on one fixed batch, and a run's training by the record of its throughput."""
    task = load_task(spec.data)
    images, targets = task.made_up_batch(spec.recipe.batch_size)
    images, targets = images.to(device) / 255, targets.to(device)
    indices = torch.arange(len(images))
    ours = Step(spec, build_model(spec).to(device).train(), task, STEPS_OF_A_RUN)
    bare = bare_loop(build_model(spec).to(device).train(), images, targets)

    def update(number: int) -> None:
        ours.update((images, targets, indices), number)

    seconds: dict[str, list[float]] = {"bare": [], "step": []}
    for number in range(rounds + 3):
        for name, loop in (("bare", bare), ("step", update)):
            spent = timed(loop, number, device)
            if number >= 3:
                seconds[name].append(spent)
    base = statistics.median(seconds["bare"])
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(
            spec, RunJob(Path(folder)), Machine(Path(folder), device.type, torch.get_num_threads())
        )
    return {
        "bare_ms": 1000 * base,
        "step_ratio": statistics.median(seconds["step"]) / base,
        "trainer_ratio": spec.recipe.batch_size / outcome.throughput / base,
        "operators": operators(update, rounds),
        "bare_operators": operators(bare, rounds),
    }


def bare_loop(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[int], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step(number: int) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return step


def timed(loop: Callable[[int], None], number: int, device: torch.device) -> float:
    started = time.perf_counter()
    loop(number)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def operators(loop: Callable[[int], None], number: int) -> int:
    """Return the number of torch operators that a step calls, forward and backward."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        loop(number)
    return sum(event.name.startswith("aten::") for event in trace.events())


if __name__ == "__main__":
    main()
