"""Environment of a run: hardware, versions and torch's flags, recorded with every result."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ema_lab.specs.recipe import RecipeSpec
from ema_lab.store.record import ONES

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "scikit-learn")
OPTIONAL_PACKAGES = ("timm",)
# Environment variables by which users restrict the instructions that torch's libraries use.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def environment(device: torch.device, recipe: RecipeSpec) -> dict[str, Any]:
    """Return commit, versions, device, processor, precision, threads and torch's flags, as they are now.

    `trainer` sets the policy. TF32 is off, so that `fp32` is true fp32. Deterministic algorithms are used
    wherever torch has one, with a warning elsewhere. cuDNN does not choose algorithms by timing.
    """
    return {
        **commit(),
        "versions": versions(),
        "device": device_name(device),
        "processor": processor(),
        "instruction_set": instruction_set(),
        "precision": recipe.precision,
        "evaluation_precision": recipe.evaluated_in,
        **arithmetic(),
        "num_threads": torch.get_num_threads(),
    }


def with_earlier(facts: dict[str, Any], environments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the differing facts of earlier attempts to those of a resumed run.

    Returns:
        The facts. If an earlier environment differed, the key `earlier` lists its differing values. The
        commit is left out, because source hashes show changed code.
    """
    source = commit()
    earlier: list[dict[str, Any]] = []
    alone = {name: one for name, one in ONES.items() if name in facts}
    for environment in environments:
        environment = {**alone, **environment}
        other = {
            key: value for key, value in environment.items() if key not in source and value != facts.get(key)
        }
        if other and other not in earlier:
            earlier.append(other)
    return {**facts, "earlier": earlier} if earlier else facts


def arithmetic() -> dict[str, Any]:
    """Read the flags of torch that decide how it computes."""
    backends = torch.backends
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic = "where torch can" if warns else "always"
    return {
        "tf32": bool(backends.cuda.matmul.allow_tf32 or backends.cudnn.allow_tf32),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": deterministic if torch.are_deterministic_algorithms_enabled() else "no",
        "cudnn_benchmark": bool(backends.cudnn.benchmark),
    }


def instruction_set() -> str:
    """Return the instruction set that torch uses, and the user's limits for torch's libraries.

    Other instructions add numbers in another order, which changes the last digits.
    """
    limits = (f"{name}={os.environ[name].upper()}" for name in INSTRUCTION_LIMITS if os.environ.get(name))
    return ", ".join([str(torch.backends.cpu.get_cpu_capability()), *limits])


def device_name(device: torch.device) -> str:
    """Return `cuda: NVIDIA ...` or `cpu: ...`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {processor()}"


@cache
def processor() -> str:
    """Return the processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())
    return platform.processor() or platform.machine()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    base = {"python": platform.python_version(), "ema-lab": importlib.metadata.version("ema-lab")}
    installed = [*PACKAGES, *(name for name in OPTIONAL_PACKAGES if importlib.util.find_spec(name))]
    return base | {package: importlib.metadata.version(package) for package in installed}


@cache
def commit() -> dict[str, str | None]:
    """Return the commit of the package's checkout and a hash of its uncommitted changes, None without one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return {"commit": None, "dirty_sha256": None}

    def git(*arguments: str) -> bytes | None:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        return done.stdout if done.returncode == 0 else None

    try:
        head, changes = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", "ema_lab")
    except (OSError, subprocess.TimeoutExpired):
        head = changes = None
    dirty = hashlib.sha256(changes).hexdigest()[:16] if changes else None
    return {"commit": head.decode().strip() if head else None, "dirty_sha256": dirty}
