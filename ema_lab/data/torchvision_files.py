"""Data sets that torchvision downloads: taken from the data root, else fetched into it."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from ema_lab.data.images import ImageSplits, LabelledImages
from ema_lab.errors import DataError

Dataset = Any  # torchvision's data sets have `data` and `targets`, but no common type
Open = Callable[[bool, bool], Dataset]  # (train, download)


def open_splits(name: str, root: Path, open_part: Open, layout: str) -> ImageSplits:
    """Return both splits of a data set of torchvision.

    Args:
        name: For messages.
        root: Created when something has to be downloaded.
        open_part: Opens the training or the test part, with or without a download.
        layout: What torchvision expects below the root, for messages.

    Raises:
        DataError: If the files are absent and cannot be downloaded, or are damaged.
    """
    try:
        return _splits(open_part, download=False)
    except RuntimeError:
        pass  # torchvision's way of saying that the files are absent or damaged
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), contextlib.redirect_stdout(sys.stderr):
            return _splits(open_part, download=True)
    except (OSError, RuntimeError) as error:
        if new:
            _remove_empty(root, root / f".{name}.lock")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.rstrip(": ")
        message = f"{name} is not in {root} and cannot be downloaded ({reason}); copy {layout} there"
        raise DataError(message) from None


def _remove_empty(root: Path, lock: Path) -> None:
    """Leave nothing behind where nothing came."""
    lock.unlink(missing_ok=True)
    for folder in [*sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True), root]:
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


def _splits(open_part: Open, *, download: bool) -> ImageSplits:
    train, test = open_part(True, download), open_part(False, download)
    return ImageSplits(_labelled(train), _labelled(test))


def _labelled(part: Dataset) -> LabelledImages:
    images: Tensor = torch.as_tensor(part.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
    return LabelledImages(images.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64))
