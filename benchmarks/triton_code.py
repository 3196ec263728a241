"""EMA's kernels as Triton compiles them, without a GPU: registers of a thread and spilled bytes."""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ema_lab.attention.kernels import triton_ema, triton_kernels

KERNELS = ("means", "apply", "gate_gradient", "input_gradient")
TARGETS = (80, 90)  # A100, H100
SHAPES = [  # batch, channels, side, groups
    *((128, 256, 32, 32), (128, 512, 16, 32), (128, 1024, 8, 32), (128, 2048, 4, 32)),  # ResNet-50, CIFAR
    (256, 256, 56, 32),  # ResNet-50, ImageNet, stage 1
]
OF_MAPS = ("X", "GRAD", "OUT", "D_X")
STRIDES = ("S_BATCH", "S_CHANNEL", "S_ROW", "S_COLUMN")


def compiled_rows() -> Iterator[dict[str, Any]]:
    """Compile each kernel for each shape and target, maps in bf16; one row per shape and target."""
    for batch, channels, side, groups in SHAPES:
        for target in TARGETS:
            x = torch.empty(batch, channels, side, side, dtype=torch.bfloat16, device="meta")
            kernels = {name: compiled(name, x, groups, target) for name in KERNELS}
            yield {
                "compiled": list(x.shape),
                "groups": groups,
                "target": f"sm_{target}",
                "registers": {name: registers for name, (registers, _) in kernels.items()},
                "spilled_bytes": {name: spilled for name, (_, spilled) in kernels.items()},
            }


def compiled(name: str, x: torch.Tensor, groups: int, target: int) -> tuple[int, int]:
    """Return a kernel's registers and the bytes that it spills, loads and stores together."""
    import triton
    from triton.backends.compiler import GPUTarget

    source, warps = _source(name, x, groups)
    code = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": warps})
    text = code.asm["ptx"]
    architecture = re.search(r"\.target (\w+)", text)
    assert architecture is not None
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(text)
        command = [
            str(assembler),
            "-v",
            f"-arch={architecture[1]}",
            str(path),
            "-o",
            f"{folder}/kernel.cubin",
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", answer)
    assert registers is not None, answer
    return int(registers[1]), sum(int(each) for each in re.findall(r"(\d+) bytes spill", answer))


def _source(name: str, x: torch.Tensor, groups: int) -> tuple[Any, int]:
    """Return what a launch would compile, and its number of warps."""
    from triton.compiler import ASTSource

    kernel = getattr(triton_kernels, name)
    numbers = {**triton_ema._sizes(x, groups), "PER": triton_ema.MAPS_PER_PROGRAM, "S_COLUMN": 1}
    strides = dict(zip(STRIDES, x.stride(), strict=True))
    signature = {argument: _type(argument, numbers) for argument in kernel.arg_names}
    divisible = [
        index
        for index, (argument, kind) in enumerate(signature.items())
        if kind.startswith("*") or (kind == "i32" and strides.get(argument, 1) % 16 == 0)
    ]
    constants = {argument: numbers[argument] for argument, kind in signature.items() if kind == "constexpr"}
    attributes = {(index,): [["tt.divisibility", 16]] for index in divisible}
    return ASTSource(kernel, signature, constants, attributes), numbers["num_warps"]


def _type(argument: str, numbers: Mapping[str, int]) -> str:
    if argument in numbers:
        return "constexpr"
    if argument in STRIDES or argument == "N":
        return "i32"
    if argument == "eps":
        return "fp32"
    return "*bf16" if argument in OF_MAPS else "*fp16" if argument == "MAP" else "*fp32"
