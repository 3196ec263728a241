"""Published weights of torchvision and timm, downloaded once into the folders that these libraries use."""

import os
from pathlib import Path
from typing import Any

import torch

from ema_lab.errors import SpecError
from ema_lab.specs.start import torchvision_url

HUB_FILE = "model.safetensors"  # of timm's repositories on the Hugging Face hub


def fetched_weights(weights: str, sha256: str) -> Path:
    """Return the file of published weights, downloaded unless it is there.

    Args:
        weights: `torchvision/CLASS.NAME` or `timm/NETWORK.TAG`.
        sha256: First digits of its SHA-256.

    Raises:
        SpecError: If it cannot be downloaded, or the library has no such weights.
    """
    library, _, name = weights.partition("/")
    try:
        return _from_torchvision(name, sha256) if library == "torchvision" else _from_timm(name)
    except SpecError:
        raise
    except Exception as error:  # urllib, torch.hub and the hub's client raise what their sockets raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        rule = "download it elsewhere and name it as `file`"
        raise SpecError(f"start: {weights} cannot be downloaded ({reason}): {rule}") from None


def _from_torchvision(name: str, sha256: str) -> Path:
    url = torchvision_url(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        os.makedirs(folder, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
    return path


def _from_timm(name: str) -> Path:
    try:
        import timm
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise SpecError(f"start: timm/{name} needs timm: pip install 'ema-lab[timm]'") from None
    try:
        config: Any = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None or not config.hf_hub_id:
        raise SpecError(f"start: timm has no weights {name!r} on the hub: download them, and use `file`")
    return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or HUB_FILE))
