"""Time of the kernels of attention, relative to the papers' formulas, forward and backward.

    python benchmarks/attention.py [--rounds 12] [--threads 1] [--device auto]

First the modules alone, then a training step of ResNet-20 with each module after every block, relative to the
same step without attention. Contenders alternate, so that a busy machine slows all of them. Times are medians
of the process's CPU time on one thread, else of the clock; ratios are medians of the turns' ratios. Operators
are counted by torch's profiler, forward and backward. On CUDA the kernels are Triton's, of EMA alone: modules
in bf16, steps in float32. `ran` in a row names the kernels that computed it. Then the Triton kernels are
compiled for A100 and H100, which need not be there: registers of a thread, and bytes spilled to memory. The
last lines are the same figures as JSON, one per row.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping

import torch
from step import bare_loop, operators, spec_of, turns
from torch import Tensor

from ema_lab.attention import build_attention
from ema_lab.attention.kernels.choice import chosen_kernel, has_triton
from ema_lab.models.build import build_model
from ema_lab.training.environment import environment
from ema_lab.training.machine import choose_device

SHAPES = [  # batch, channels, side, groups
    *((128, 16, 8, 8), (128, 32, 4, 8), (128, 64, 2, 8)),  # ResNet-20, digits
    *((128, 16, 28, 8), (128, 32, 14, 8), (128, 64, 7, 8)),  # ResNet-20, Fashion-MNIST
    *((16, 256, 32, 32), (16, 512, 16, 32), (16, 1024, 8, 32), (16, 2048, 4, 32)),  # ResNet-50, CIFAR
    *((4, 256, 56, 32), (4, 512, 28, 32), (4, 1024, 14, 32), (4, 2048, 7, 32)),  # ResNet-50, ImageNet
]
GATES: dict[str, dict] = {"ca": {}, "cbam": {}, "triplet": {}, "sa": {"groups": 8}}  # and their options
GATE_SHAPES = [(128, 16, 28), (128, 32, 14), (128, 64, 7), (128, 16, 8), (32, 256, 32)]
STEPS = [  # image size and batch
    *(("ema", 8, 128), ("ema", 28, 128), ("ca", 8, 128), ("cbam", 8, 128), ("triplet", 8, 128)),
    ("sa", 28, 128),  # images of digits are too small for its kernel
]
ON_CUDA = [  # batch, channels, side, groups
    *((128, 256, 32, 32), (128, 512, 16, 32), (128, 1024, 8, 32), (128, 2048, 4, 32)),  # ResNet-50, CIFAR
    *((256, 256, 56, 32), (256, 512, 28, 32), (256, 1024, 14, 32), (256, 2048, 7, 32)),  # ResNet-50, ImageNet
]
Loop = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="timed calls of each contender")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    rows = [*module_rows(arguments.rounds, device), *step_rows(arguments.rounds, device)]
    rows += code_rows()
    machine = environment(device, spec_of("resnet20", {"name": "none"}, 8, 8).recipe)
    print(f"{machine['device']}, {machine['instruction_set']}, {arguments.threads} thread(s)")
    for row in rows:
        facts = {key: machine[key] for key in ("device", "instruction_set", "num_threads", "versions")}
        print(json.dumps(row | facts))


def fast_kernel(device: torch.device) -> str:
    """Return the kernel beside the formula."""
    return "triton" if device.type == "cuda" else "exact"


def module_rows(rounds: int, device: torch.device) -> list[dict]:
    """Time the modules alone; print and return a row for each shape."""
    kernel = fast_kernel(device)
    print(
        "{:<30}{:>11}{:>10}{:>8}{:>22}".format("shape", "formula ms", f"{kernel} ms", "faster", "operators")
    )
    sizes = ON_CUDA if device.type == "cuda" else SHAPES
    cases = [
        ("ema", (batch, channels, side, side), {"groups": groups}) for batch, channels, side, groups in sizes
    ]
    if device.type == "cpu":
        cases += [
            (name, (batch, channels, side, side), options)
            for name, options in GATES.items()
            for batch, channels, side in GATE_SHAPES
        ]
    rows = []
    for name, shape, options in cases:
        row = module_row(name, shape, options, rounds, device)
        rows.append(row)
        times, counts = row["ms"], row["operators"]
        title = f"{name} {'x'.join(map(str, shape))} {' / '.join(map(str, ('', *options.values())))}"
        line = f"{title:<30}{times['formula']:>11.2f}{times[kernel]:>10.2f}{row['faster']:>8.2f}"
        print(f"{line}{counts['formula']:>13} -> {counts[kernel]}", flush=True)
    return rows


def step_rows(rounds: int, device: torch.device) -> list[dict]:
    """Time steps of ResNet-20; print and return a row for each module and image size."""
    kernel = fast_kernel(device)
    print(
        "{:<30}{:>11}{:>10}{:>8}{:>30}".format("step of ResNet-20", "none ms", "formula", kernel, "operators")
    )
    rows = []
    for name, side, batch in STEPS:
        if name != "ema" and device.type != "cpu":
            continue
        row = step_row(name, side, batch, rounds, device)
        rows.append(row)
        ratios, counts = row["ratio_to_none"], row["operators"]
        title = f"{name}, {side}x{side}, batch {batch}"
        line = f"{title:<30}{row['ms']['none']:>11.2f}{ratios['formula']:>10.2f}"
        counted = f"{counts['none']}: {counts['formula']} -> {counts[kernel]}"
        print(f"{line}{ratios[kernel]:>8.2f}{counted:>30}", flush=True)
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


def module_row(name: str, shape: tuple[int, ...], options: dict, rounds: int, device: torch.device) -> dict:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    module = build_attention(name, shape[1], **options).to(device, dtype)
    noise = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=noise).to(device, dtype) for _ in range(2))
    kernel = fast_kernel(device)
    ran: set[str] = set()
    loops = {
        each: _with_kernel(
            _module_loop(module, x.requires_grad_(), grad), each, ran if each == kernel else set()
        )
        for each in ("formula", kernel)
    }
    times = turns(loops, rounds, device)
    return {
        "module": name,
        "shape": shape,
        **options,
        "dtype": str(dtype).removeprefix("torch."),
        "ran": sorted(ran),
        "ms": medians(times),
        "faster": ratio(times["formula"], times[kernel]),
        "operators": {each: operators(loop, 0) for each, loop in loops.items()},
    }


def _module_loop(module: torch.nn.Module, x: Tensor, grad: Tensor) -> Loop:
    def loop(number: int) -> None:
        module.zero_grad()
        x.grad = None
        module(x).backward(grad)

    return loop


def step_row(attention: str, side: int, batch: int, rounds: int, device: torch.device) -> dict:
    noise = torch.Generator().manual_seed(0)
    chosen = {"name": attention, **{"ema": {"groups": 8}, **GATES}[attention]}
    kernels = ("formula", fast_kernel(device))
    loops, ran = {}, {name: set[str]() for name in ("none", *kernels)}
    for name, each in {"none": {"name": "none"}, **dict.fromkeys(kernels, chosen)}.items():
        spec = spec_of("resnet20", each, side, batch)
        images = torch.randn(batch, *spec.data.facts.image_shape, generator=noise)
        targets = torch.arange(batch) % spec.data.facts.classes
        bare = bare_loop(build_model(spec).to(device).train(), images.to(device), targets.to(device))
        loops[name] = _with_kernel(bare, name if name in kernels else "formula", ran[name])
    times = turns(loops, rounds, device)
    return {
        "step": f"resnet20 {side}x{side}",
        "attention": attention,
        "batch": batch,
        "ran": sorted(ran[kernels[1]]),
        "ms": medians(times),
        "min_ms": {name: 1000 * min(values) for name, values in times.items()},
        "ratio_to_none": {name: ratio(times[name], times["none"]) for name in kernels},
        "ratio_of_minima": {name: min(times[name]) / min(times["none"]) for name in kernels},
        "operators": {name: operators(loop, 0) for name, loop in loops.items()},
    }


def _with_kernel(step: Loop, kernel: str, ran: set[str]) -> Loop:
    """Return a loop that runs under a kernel, and adds the kernels that ran to a set."""

    def loop(number: int) -> None:
        with chosen_kernel(kernel) as those:
            step(number)
        ran.update(those)

    return loop


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median milliseconds of each loop."""
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median ratio of two loops' turns."""
    return statistics.median(mine / theirs for mine, theirs in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
