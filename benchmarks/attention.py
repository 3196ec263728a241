"""Time of the exact kernels of attention, relative to the papers' formulas, forward and backward.

    python benchmarks/attention.py [--rounds 12] [--threads 1]

First the modules alone, then a training step of ResNet-20 with each module after every block, relative to the
same step without attention. Contenders alternate, so that a busy machine slows all of them. Times are medians
of the process's CPU time, ratios medians of the turns' ratios. Operators are counted by torch's profiler,
forward and backward. Then the Triton kernels are compiled for A100 and H100, which need not be there: their
registers of a thread, and bytes spilled to memory. The last lines are the same figures as JSON, one per row.
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
GATES = ("ca", "cbam", "triplet")
GATE_SHAPES = [(128, 16, 28), (128, 32, 14), (128, 64, 7), (128, 16, 8), (32, 256, 32)]
STEPS = [("ema", 8, 128), ("ema", 28, 128), *((gate, 8, 128) for gate in GATES)]  # image size and batch
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
    rows = [*module_rows(arguments.rounds), *step_rows(arguments.rounds)]
    rows += code_rows()
    machine = environment(torch.device("cpu"), spec_of("resnet20", {"name": "none"}, 8, 8).recipe)
    print(f"{machine['device']}, {machine['instruction_set']}, {arguments.threads} thread(s)")
    for row in rows:
        facts = {key: machine[key] for key in ("device", "instruction_set", "num_threads", "versions")}
        print(json.dumps(row | facts))


def module_rows(rounds: int) -> list[dict]:
    """Time the modules alone; print and return a row for each shape."""
    print("{:<30}{:>11}{:>10}{:>8}{:>22}".format("shape", "formula ms", "exact ms", "faster", "operators"))
    cases = [
        ("ema", (batch, channels, side, side), {"groups": groups}) for batch, channels, side, groups in SHAPES
    ]
    cases += [
        (name, (batch, channels, side, side), {}) for name in GATES for batch, channels, side in GATE_SHAPES
    ]
    rows = []
    for name, shape, options in cases:
        row = module_row(name, shape, options, rounds)
        rows.append(row)
        times, counts = row["ms"], row["operators"]
        title = f"{name} {'x'.join(map(str, shape))} {' / '.join(map(str, ('', *options.values())))}"
        line = f"{title:<30}{times['formula']:>11.2f}{times['exact']:>10.2f}{row['faster']:>8.2f}"
        print(f"{line}{counts['formula']:>13} -> {counts['exact']}", flush=True)
    return rows


def step_rows(rounds: int) -> list[dict]:
    """Time steps of ResNet-20; print and return a row for each module and image size."""
    print(
        "{:<30}{:>11}{:>10}{:>8}{:>30}".format(
            "step of ResNet-20", "none ms", "formula", "exact", "operators"
        )
    )
    rows = []
    for name, side, batch in STEPS:
        row = step_row(name, side, batch, rounds)
        rows.append(row)
        ratios, counts = row["ratio_to_none"], row["operators"]
        title = f"{name}, {side}x{side}, batch {batch}"
        line = f"{title:<30}{row['ms']['none']:>11.2f}{ratios['formula']:>10.2f}"
        counted = f"{counts['none']}: {counts['formula']} -> {counts['exact']}"
        print(f"{line}{ratios['exact']:>8.2f}{counted:>30}", flush=True)
    return rows


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


def module_row(name: str, shape: tuple[int, ...], options: dict, rounds: int) -> dict:
    module = build_attention(name, shape[1], **options)
    noise = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=noise) for _ in range(2))
    loops = {kernel: _module_loop(module, x.requires_grad_(), grad, kernel) for kernel in KERNELS}
    times = cpu_times(loops, rounds)
    return {
        "module": name,
        "shape": shape,
        **options,
        "ms": medians(times),
        "faster": ratio(times["formula"], times["exact"]),
        "operators": {kernel: operators(loop, 0) for kernel, loop in loops.items()},
    }


def _module_loop(module: torch.nn.Module, x: Tensor, grad: Tensor, kernel: str) -> Loop:
    def loop(number: int) -> None:
        module.zero_grad()
        x.grad = None
        with chosen_kernel(kernel):
            module(x).backward(grad)

    return loop


def step_row(attention: str, side: int, batch: int, rounds: int) -> dict:
    noise = torch.Generator().manual_seed(0)
    chosen = {"name": attention, **({"groups": 8} if attention == "ema" else {})}
    loops = {}
    for name, each in {"none": {"name": "none"}, **dict.fromkeys(KERNELS, chosen)}.items():
        spec = spec_of("resnet20", each, side, batch)
        images = torch.randn(batch, *spec.data.facts.image_shape, generator=noise)
        targets = torch.arange(batch) % spec.data.facts.classes
        bare = bare_loop(build_model(spec).train(), images, targets)
        loops[name] = _with_kernel(bare, name if name in KERNELS else "formula")
    times = cpu_times(loops, rounds)
    return {
        "step": f"resnet20 {side}x{side}",
        "attention": attention,
        "batch": batch,
        "ms": medians(times),
        "min_ms": {name: 1000 * min(values) for name, values in times.items()},
        "ratio_to_none": {name: ratio(times[name], times["none"]) for name in KERNELS},
        "ratio_of_minima": {name: min(times[name]) / min(times["none"]) for name in KERNELS},
        "operators": {name: operators(loop, 0) for name, loop in loops.items()},
    }


def _with_kernel(step: Loop, kernel: str) -> Loop:
    def loop(number: int) -> None:
        with chosen_kernel(kernel):
            step(number)

    return loop


def cpu_times(loops: Mapping[str, Loop], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each loop's turns; the loops alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(WARM_UP + rounds):
        for name, loop in loops.items():
            began = time.process_time()
            loop(number)
            if number >= WARM_UP:
                seconds[name].append(time.process_time() - began)
    return seconds


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median milliseconds of each loop."""
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median ratio of two loops' turns."""
    return statistics.median(mine / theirs for mine, theirs in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
