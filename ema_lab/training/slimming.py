"""Checkpoints without what only resuming needs: for finished runs, whose weights are all that counts."""

from pathlib import Path
from typing import Any

import torch

from ema_lab.files import atomic_write
from ema_lab.store.layout import RUN_ID_FIELD

KEPT = (RUN_ID_FIELD, "state_dict", "epoch", "global_step", "pytorch-lightning_version")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU, its tensors mapped from the file.

    Raises:
        KeyError: If it holds no weights.
    """
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not checkpoint["state_dict"]:
        raise KeyError("state_dict")
    return checkpoint


def surplus_bytes(path: Path) -> int:
    """Return the bytes of the tensors in a checkpoint that only resuming needs."""
    checkpoint = load_checkpoint(path)
    return sum(_tensor_bytes(value) for key, value in checkpoint.items() if key not in KEPT)


def _tensor_bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def slim(path: Path) -> None:
    """Write a checkpoint again with its weights alone."""
    checkpoint = load_checkpoint(path)
    kept = {key: checkpoint[key] for key in KEPT if key in checkpoint}
    with atomic_write(path) as partial:
        torch.save(kept, partial)
