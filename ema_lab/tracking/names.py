"""How a run is called outside the store: one set of names for live tracking and for mirrors."""

import configparser
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, urlparse

from ema_lab.specs.run import RunSpec

PROJECT = "ema-lab"
WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # where its client goes by default, by its version
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


def wandb_is_offline() -> bool:
    """Whether W&B is told to reach no server."""
    return os.environ.get("WANDB_MODE") in {"offline", "disabled", "dryrun"}


def wandb_has_key() -> bool:
    """Whether there is a key for the server: without one, W&B asks for it, which stops a program."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = os.environ.get("WANDB_BASE_URL") or _wandb_login_host()
    hosts = (urlparse(own).netloc, urlparse(own).hostname or "") if own else WANDB_HOSTS
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in hosts)


def _wandb_login_host() -> str | None:
    """Return the server that `wandb login --host` has noted."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings")
    except configparser.Error:
        return None
    return settings.get("default", "base_url", fallback=None)
