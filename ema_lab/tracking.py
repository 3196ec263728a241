"""How a run is called outside the store: one set of names for live tracking and for mirrors."""

import netrc
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import ParseResult, urlparse

from ema_lab.specs.run import RunSpec

PROJECT = "ema-lab"
COSTS_SHOWN = ("parameters", "macs")


def wandb_project() -> str:
    """Return the project that W&B's own variable names, or this package's."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def run_name(variant: str, seed: int) -> str:
    """Return a run's name; those of one ablation differ."""
    return f"{variant}-s{seed}"


def run_tags(spec: RunSpec) -> tuple[str, ...]:
    """Return what runs of several ablations are found by: data set, backbone, module."""
    return (spec.data.name, spec.model.backbone, spec.model.attention.name)


def run_config(spec: RunSpec) -> dict[str, Any]:
    """Return the run id and everything that decides the result."""
    return {"run_id": spec.run_id, **spec.resolved()}


def run_summary(
    metrics: Mapping[str, float], cost: Mapping[str, Any], chosen_epoch: int
) -> dict[str, float | int]:
    """Return a finished run's reported metrics and costs, and the epoch (from 1) that they belong to."""
    shown = {key: cost[key] for key in COSTS_SHOWN if key in cost}
    return {**metrics, **shown, "chosen_epoch": chosen_epoch}


def wandb_server() -> ParseResult:
    """Return the address of the server that W&B's client talks to."""
    return urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")


def wandb_has_key() -> bool:
    """Whether there is a key for the server: without one, W&B asks for it, which stops a program."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(wandb_server().hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
