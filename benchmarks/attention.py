"""Time of EMA's exact kernel, relative to the paper's formula, forward and backward.

    python benchmarks/attention.py [--rounds 12] [--threads 1]

First the module alone, then a training step of ResNet-20 with EMA after every block, relative to the same
step without attention. Contenders alternate, so that a busy machine slows all of them. Times are medians of
the process's CPU time. Operators are counted by torch's profiler, forward and backward. Then the Triton
kernels are compiled for A100 and H100, which need not be there: registers of a thread, and bytes spilled to
memory. The last lines are the same figures as JSON, one object per row.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from step import bare_loop, operators, spec_of
from torch import Tensor

from ema_lab.attention import build_attention
from ema_lab.attention.kernels.choice import chosen_kernel, has_triton
from ema_lab.models.build import build_model
from ema_lab.training.environment import environment

KERNELS = ("formula", "exact")
SHAPES = [  # batch, channels, side, groups
    *((128, 16, 8, 8), (128, 32, 4, 8), (128, 64, 2, 8)),  # ResNet-20, digits
    *((128, 16, 28, 8), (128, 32, 14, 8), (128, 64, 7, 8)),  # ResNet-20, Fashion-MNIST
    *((16, 256, 32, 32), (16, 512, 16, 32), (16, 1024, 8, 32), (16, 2048, 4, 32)),  # ResNet-50, CIFAR
    *((4, 256, 56, 32), (4, 512, 28, 32), (4, 1024, 14, 32), (4, 2048, 7, 32)),  # ResNet-50, ImageNet
]
STEPS = [(8, 128), (28, 128)]  # image size and batch of a step of ResNet-20
WARM_UP = 3
Loop = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="timed calls of each contender")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print(
        "{:<22}{:>11}{:>10}{:>8}{:>22}".format(
            "shape / groups", "formula ms", "exact ms", "faster", "operators"
        )
    )
    for batch, channels, side, groups in SHAPES:
        row = module_row((batch, channels, side, side), groups, arguments.rounds)
        rows.append(row)
        times, counts = row["ms"], row["operators"]
        name = f"{batch}x{channels}x{side}x{side} / {groups}"
        line = f"{name:<22}{times['formula']:>11.2f}{times['exact']:>10.2f}{row['faster']:>8.2f}"
        print(f"{line}{counts['formula']:>13} -> {counts['exact']}", flush=True)
    print(
        "{:<22}{:>11}{:>10}{:>8}{:>22}".format(
            "step of ResNet-20", "none ms", "formula", "exact", "operators"
        )
    )
    for side, batch in STEPS:
        row = step_row(side, batch, arguments.rounds)
        rows.append(row)
        ratios, counts = row["ratio_to_none"], row["operators"]
        line = f"{f'{side}x{side}, batch {batch}':<22}{row['ms']['none']:>11.2f}{ratios['formula']:>10.2f}"
        print(f"{line}{ratios['exact']:>8.2f}{counts['formula']:>13} -> {counts['exact']}", flush=True)
    rows += code_rows()
    machine = environment(torch.device("cpu"), spec_of("resnet20", {"name": "none"}, 8, 8).recipe)
    print(f"{machine['device']}, {machine['instruction_set']}, {arguments.threads} thread(s)")
    for row in rows:
        facts = {key: machine[key] for key in ("device", "instruction_set", "num_threads", "versions")}
        print(json.dumps(row | facts))


def code_rows() -> list[dict]:
    rows = []
    if not has_triton():
        print("no Triton here: its kernels are not compiled")
        return rows
    from triton_code import compiled_rows

    print("{:<22}{:>7}  {}".format("Triton, bf16", "", "registers + spilled bytes"))
    for row in compiled_rows():
        rows.append(row)
        name = f"{'x'.join(str(side) for side in row['compiled'])} / {row['groups']}"
        kernels = (
            f"{name} {row['registers'][name]}+{row['spilled_bytes'][name]}" for name in row["registers"]
        )
        print(f"{name:<22}{row['target']:>7}  {'  '.join(kernels)}", flush=True)
    return rows


def module_row(shape: tuple[int, ...], groups: int, rounds: int) -> dict:
    module = build_attention("ema", shape[1], groups=groups)
    noise = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=noise) for _ in range(2))
    loops = {name: _module_loop(module, x.requires_grad_(), grad, name) for name in KERNELS}
    times = medians(loops, rounds)
    return {
        "shape": shape,
        "groups": groups,
        "ms": times,
        "faster": times["formula"] / times["exact"],
        "operators": {name: operators(loop, 0) for name, loop in loops.items()},
    }


def _module_loop(module: torch.nn.Module, x: Tensor, grad: Tensor, kernel: str) -> Loop:
    def loop(number: int) -> None:
        module.zero_grad()
        x.grad = None
        with chosen_kernel(kernel):
            module(x).backward(grad)

    return loop


def step_row(side: int, batch: int, rounds: int) -> dict:
    noise = torch.Generator().manual_seed(0)
    ema = {"name": "ema", "groups": 8}
    loops = {}
    for name, attention in {"none": {"name": "none"}, **dict.fromkeys(KERNELS, ema)}.items():
        spec = spec_of("resnet20", attention, side, batch)
        images = torch.randn(batch, *spec.data.facts.image_shape, generator=noise)
        targets = torch.arange(batch) % spec.data.facts.classes
        bare = bare_loop(build_model(spec).train(), images, targets)
        loops[name] = _with_kernel(bare, name if name in KERNELS else "formula")
    times = medians(loops, rounds)
    return {
        "step": f"resnet20 {side}x{side}",
        "batch": batch,
        "ms": times,
        "ratio_to_none": {name: times[name] / times["none"] for name in KERNELS},
        "operators": {name: operators(loop, 0) for name, loop in loops.items()},
    }


def _with_kernel(step: Loop, kernel: str) -> Loop:
    def loop(number: int) -> None:
        with chosen_kernel(kernel):
            step(number)

    return loop


def medians(loops: Mapping[str, Loop], rounds: int) -> dict[str, float]:
    """Return the median CPU milliseconds of each loop; the loops alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(WARM_UP + rounds):
        for name, loop in loops.items():
            began = time.process_time()
            loop(number)
            if number >= WARM_UP:
                seconds[name].append(time.process_time() - began)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
