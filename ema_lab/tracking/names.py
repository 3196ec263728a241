"""Names of a run outside the store, shared by live trackers and mirrors."""

import configparser
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, urlparse

from ema_lab.specs.run import RunSpec

PROJECT = "ema-lab"
WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # default hosts of W&B's client, by version
SUMMARY_COSTS = ("parameters", "macs")


def wandb_project() -> str:
    """Return the project from `WANDB_PROJECT`, or this package's default."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def run_name(variant: str, seed: int) -> str:
    """Return a run's name, which is unique within an ablation."""
    return f"{variant}-s{seed}"


def variant_of(spec: RunSpec, variant: str) -> str:
    """Return the table row of a run, or its attention's name if the run belongs to no ablation."""
    return variant or spec.model.attention.name


def run_tags(spec: RunSpec) -> tuple[str, ...]:
    """Return tags for searching across ablations: data set, detector on the backbone, backbone, attention."""
    detector = () if spec.model.detector is None else (spec.model.detector.name,)
    return (spec.data.name, *detector, spec.model.backbone, spec.model.attention.name)


def run_config(spec: RunSpec) -> dict[str, Any]:
    """Return the run id and everything that decides the result."""
    return {"run_id": spec.run_id, **spec.resolved()}


def run_summary(
    metrics: Mapping[str, float], cost: Mapping[str, Any], chosen_epoch: int
) -> dict[str, float | int]:
    """Return a finished run's metrics and costs, and the reported epoch (from 1)."""
    costs = {key: cost[key] for key in SUMMARY_COSTS if key in cost}
    return {**metrics, **costs, "chosen_epoch": chosen_epoch}


def wandb_server() -> ParseResult:
    """Return the address of W&B's server, from `WANDB_BASE_URL` or the default."""
    return urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")


def wandb_is_offline() -> bool:
    """Return whether `WANDB_MODE` keeps W&B from contacting a server."""
    return os.environ.get("WANDB_MODE") in {"offline", "disabled", "dryrun"}


def wandb_has_key() -> bool:
    """Return whether W&B has a key for its server. Without a key W&B prompts, which blocks a program."""
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
    """Return the server that `wandb login --host` has saved, if any."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings")
    except configparser.Error:
        return None
    return settings.get("default", "base_url", fallback=None)
