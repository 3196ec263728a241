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
from ema_lab.errors import DamagedDataError, DataError

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
        DataError: If the files are absent and cannot be downloaded.
        DamagedDataError: If they are there, but are not what is published.
    """
    try:
        return _splits(open_part, download=False)
    except RuntimeError:
        pass  # torchvision's way of saying that the files are absent or damaged
    except Exception as error:  # what its readers raise of a file that was cut off or overwritten
        raise DamagedDataError(_damaged(name, root, _reason(error), layout)) from error
    there = [part for part in layout.split(" or ") if any(root.glob(part))]
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), contextlib.redirect_stdout(sys.stderr):
            return _splits(open_part, download=True)
    except (OSError, RuntimeError) as error:
        if new:
            _remove_empty(root, root / f".{name}.lock")
        reason = _reason(error)
        if there:
            words = f"{', '.join(there)} is not what is published, and cannot be downloaded again ({reason})"
            raise DamagedDataError(_damaged(name, root, words, layout)) from None
        message = f"{name} is not in {root} and cannot be downloaded ({reason}); copy {layout} there"
        raise DataError(message) from None


def _reason(error: Exception) -> str:
    return (str(error).splitlines()[0] if str(error) else type(error).__name__).rstrip(": ")


def _damaged(name: str, root: Path, reason: str, layout: str) -> str:
    return f"{name} in {root} is damaged: {reason}; remove it and copy {layout} there"


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
