"""Choice of the kernel that computes an attention module, for a whole process.

Kernels agree with a module's formula within rounding, not bit by bit. So the choice is no part of a run spec,
and a run's record names the kernels that ran.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from ema_lab.errors import SpecError

KERNELS: Mapping[str, str] = {
    "formula": "the module's formula, operator by operator",
    "exact": "exact algebra with a hand-written backward, in plain PyTorch",
    "triton": "the same algebra in Triton kernels, also in 16 bits, on CUDA; `formula` elsewhere",
    "auto": "`triton` on CUDA where Triton is installed, else `exact`",
}
VARIABLE = "EMA_LAB_ATTENTION_KERNEL"
FACT = "attention_kernel"  # key of the environment in a run's record


@dataclass
class _Process:
    """State of this process: the explicit choice, and the kernels that ran since the last `chosen_kernel`."""

    choice: str | None = None
    ran: set[str] = field(default_factory=set)


_PROCESS = _Process()


def check_kernel(name: str) -> str:
    """Return a kernel's name.

    Raises:
        SpecError: If the name is unknown.
    """
    if name not in KERNELS:
        raise SpecError(f"the attention kernel must be one of {', '.join(KERNELS)}, got {name!r}")
    return name


@contextmanager
def chosen_kernel(name: str | None) -> Iterator[set[str]]:
    """Choose the kernel while a block runs; yield the set of kernels that have run in the block.

    Args:
        name: Key of `KERNELS`. None takes the environment variable EMA_LAB_ATTENTION_KERNEL, or else
            `formula`, so that results stay bit-equal.

    Raises:
        SpecError: If the name is unknown.
    """
    before = (_PROCESS.choice, _PROCESS.ran)
    _PROCESS.choice, _PROCESS.ran = name and check_kernel(name), set()
    try:
        yield _PROCESS.ran
    finally:
        _PROCESS.choice, _PROCESS.ran = before


def kernel_on(device_type: str, choice: str | None = None) -> str:
    """Return the kernel for a type of device: `formula`, `exact` or `triton`.

    Args:
        device_type: Such as "cpu" or "cuda".
        choice: Requested kernel; None takes the choice of this process.

    Raises:
        SpecError: If the environment variable names an unknown kernel.
    """
    if device_type not in {"cpu", "cuda"}:
        return "formula"
    choice = check_kernel(choice or _PROCESS.choice or os.environ.get(VARIABLE) or "formula")
    if choice == "auto":
        return "triton" if device_type == "cuda" and has_triton() else "exact"
    return "formula" if choice == "triton" and device_type == "cpu" else choice


@cache
def has_triton() -> bool:
    """Whether Triton is installed: it comes with torch on Linux."""
    return importlib.util.find_spec("triton") is not None


def note(kernel: str) -> None:
    """Note that a kernel has run."""
    _PROCESS.ran.add(kernel)


def fact_of(ran: set[str]) -> dict[str, str]:
    """Return the environment fact for a run's record; empty for a model whose modules have no kernels."""
    return {FACT: ", ".join(sorted(ran))} if ran else {}
