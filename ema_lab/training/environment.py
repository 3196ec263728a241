"""What a run ran on: recorded with every result, so that it can be repeated and questioned."""

import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ema_lab.specs.recipe import RecipeSpec

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "scikit-learn")
OPTIONAL_PACKAGES = ("timm",)


def environment(device: torch.device, recipe: RecipeSpec) -> dict[str, Any]:
    """Return commit, versions, device, precision and threads.

    The policy: TF32 is off, so `fp32` is what it says; deterministic algorithms are used wherever
    torch has one, and torch warns where it has none; cuDNN does not choose algorithms by timing.
    """
    return {
        **commit(),
        "versions": versions(),
        "device": device_name(device),
        "precision": recipe.precision,
        "evaluation_precision": recipe.evaluated_in,
        "tf32": False,
        "deterministic": "where torch can",
        "num_threads": torch.get_num_threads(),
    }


def device_name(device: torch.device) -> str:
    """Return `cuda: NVIDIA ...` or `cpu: ...`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_processor()}"


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())
    return platform.processor() or platform.machine()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "ema-lab": importlib.metadata.version("ema-lab")}
    installed = [*PACKAGES, *(name for name in OPTIONAL_PACKAGES if importlib.util.find_spec(name))]
    return found | {package: importlib.metadata.version(package) for package in installed}


@cache
def commit() -> dict[str, str | None]:
    """Return the commit of the package's checkout and a hash of what is not committed, if it has one."""
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
