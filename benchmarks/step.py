"""Milliseconds of a training step in each setting, and of an epoch, beside what one would write by hand.

    python benchmarks/step.py [--rounds 20] [--threads 1] [--device cpu] [--only resnet20-28 ...] [--all]

The bare loop is the baseline of the ratios: the same model and optimizer, forward, cross-entropy, backward
and update, with nothing else. Our step runs in each setting of the recipe fields `memory_format` and
`compile`. All contenders take turns, so that a busy machine slows all of them. Ratios are medians of the
turns' own ratios, beside the ratio of the fastest turns. Compilation is timed apart, with an empty cache.
ResNet-50 is compiled with `--all` alone, which takes minutes.

Then whole epochs on digits, by the bare loop, by a plain LightningModule, and by a run's training. Operators
are counted by torch's profiler. The last lines are the same figures as JSON, one object per row.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from epoch import epoch_row
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ema_lab.errors import CompileError
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import load_task
from ema_lab.training.compiled import compiler_cache
from ema_lab.training.environment import environment
from ema_lab.training.machine import choose_device
from ema_lab.training.step import Step


class Shape(NamedTuple):
    """Model and batch of a row."""

    backbone: str
    image: int
    batch: int
    attention: dict[str, Any]
    rounds: int  # at most
    compiles: Literal["always", "on request", "never"]

    @property
    def name(self) -> str:
        return f"{self.backbone}-{self.image}"


NONE, EMA_8, EMA_32 = {"name": "none"}, {"name": "ema", "groups": 8}, {"name": "ema", "groups": 32}
SHAPES = [
    Shape("resnet20", 8, 128, NONE, rounds=20, compiles="on request"),
    Shape("resnet20", 8, 128, EMA_8, rounds=20, compiles="never"),
    Shape("resnet20", 28, 128, NONE, rounds=10, compiles="always"),
    Shape("resnet20", 28, 128, EMA_8, rounds=5, compiles="never"),
    Shape("resnet50", 32, 32, NONE, rounds=3, compiles="on request"),
    Shape("resnet50", 32, 32, EMA_32, rounds=2, compiles="never"),
]
FORMATS = ("contiguous", "channels_last")
WARM_UP = 2
STEPS_OF_A_RUN = 20
Loop = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=20, help="timed turns, at most; large models have fewer"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    names = sorted({shape.name for shape in SHAPES})
    parser.add_argument("--only", nargs="+", default=[*names, "epoch"], choices=[*names, "epoch"])
    parser.add_argument(
        "--all", action="store_true", help="compile ResNet-50 and the smallest images, too: minutes"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    rows = []
    titles = ("backbone", "attention", "image", "batch", "setting", "ms", "ratio", "of minima", "compile s")
    print("{:<10}{:<11}{:>6}{:>6}  {:<30}{:>9}{:>8}{:>11}{:>11}".format(*titles))
    for shape in SHAPES:
        if shape.name in arguments.only:
            compiles = shape.compiles == "always" or (arguments.all and shape.compiles == "on request")
            rows += step_rows(shape, device, arguments.rounds, compiles=compiles)
    if "epoch" in arguments.only:
        rows += [epoch_row(attention, device) for attention in (NONE, EMA_8)]
    machine = environment(device, spec_of("resnet20", NONE, 8, 8).recipe)
    print(f"ratios to the bare loop; {machine['device']}, {arguments.threads} thread(s)")
    for row in rows:
        print(json.dumps(row | {"device": machine["device"], "versions": machine["versions"]}))


def spec_of(backbone: str, attention: dict[str, Any], size: int, batch_size: int, **fields: str) -> RunSpec:
    """Return a run of one epoch on synthetic images; `fields` are of its recipe."""
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
                **fields,
            },
            "seed": 0,
        }
    )


def step_rows(shape: Shape, device: torch.device, rounds: int, *, compiles: bool) -> list[dict[str, Any]]:
    """Time the bare loop and our step in each setting on one fixed batch; print and return a row for each."""
    loops: dict[str, Loop] = {}
    with tempfile.TemporaryDirectory() as folder:
        compile_seconds = add_loops(
            loops, shape, device, Path(folder), ("off", "default") if compiles else ("off",)
        )
        seconds = turns(loops, min(rounds, shape.rounds), device)
    counts = {name: operators(loop, 0) for name, loop in loops.items() if "default" not in name}
    rows = []
    for name, times in seconds.items():
        pairs = zip(times, seconds["bare"], strict=True)
        row = {
            "backbone": shape.backbone,
            "attention": shape.attention["name"],
            "image": shape.image,
            "batch": shape.batch,
            "setting": name,
            "ms": 1000 * statistics.median(times),
            "min_ms": 1000 * min(times),
            "ratio": statistics.median(one / bare for one, bare in pairs),
            "ratio_of_minima": min(times) / min(seconds["bare"]),
            "compile_seconds": compile_seconds.get(name, 0.0),
            "operators": counts.get(name),
        }
        rows.append(row)
        model = f"{shape.backbone:<10}{row['attention']:<11}{shape.image:>6}{shape.batch:>6}"
        print(
            f"{model}  {name:<30}{row['ms']:>9.1f}{row['ratio']:>8.3f}"
            f"{row['ratio_of_minima']:>11.3f}{row['compile_seconds']:>11.1f}",
            flush=True,
        )
    return rows


def add_loops(
    loops: dict[str, Loop], shape: Shape, device: torch.device, cache: Path, modes: Sequence[str]
) -> dict[str, float]:
    """Add the bare loop and ours in each setting, which run one batch; return the seconds of compilation.

    A setting that training refuses, because the compiled model differs on this batch, is said and left out.
    """
    spec = spec_of(shape.backbone, shape.attention, shape.image, shape.batch)
    images, targets = load_task(spec.data).made_up_batch(shape.batch)
    images, targets = images.to(device) / 128 - 1, targets.to(device)
    loops["bare"] = bare_loop(build_model(spec).to(device).train(), images, targets)
    seconds: dict[str, float] = {}
    for mode, layout in product(modes, FORMATS):
        setting, fields = f"{layout}, compile {mode}", {"memory_format": layout, "compile": mode}
        varied = spec_of(shape.backbone, shape.attention, shape.image, shape.batch, **fields)
        step, loop = our_loop(varied, device, images, targets)
        try:
            with compiler_cache(varied.recipe, cache):
                loop(0)  # compiles
        except CompileError as error:
            print(f"{shape.name}, {setting}: {error}", flush=True)
            continue
        loops[setting] = loop
        seconds[setting] = 0.0 if step.compiled is None else step.compiled.seconds
    return seconds


def our_loop(spec: RunSpec, device: torch.device, images: Tensor, targets: Tensor) -> tuple[Step, Loop]:
    """Return a run's step, and a loop of it on one batch; the model's weights have the recipe's layout."""
    step = Step(spec, build_model(spec).to(device).train(), load_task(spec.data), STEPS_OF_A_RUN)
    indices = torch.arange(len(images))

    def loop(number: int) -> None:
        step.update((images, targets, indices), number)

    return step, loop


def bare_loop(model: nn.Module, images: Tensor, targets: Tensor) -> Loop:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step(number: int) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return step


def turns(loops: Mapping[str, Loop], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each loop's turns: CPU time of the process for one thread, else of the clock."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(WARM_UP + rounds):
        for name, loop in loops.items():
            began = clock()
            loop(number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= WARM_UP:
                seconds[name].append(clock() - began)
    return seconds


def operators(loop: Loop, number: int) -> int:
    """Return the number of torch operators that a step calls, forward and backward."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        loop(number)
    return sum(event.name.startswith("aten::") for event in trace.events())


if __name__ == "__main__":
    main()
