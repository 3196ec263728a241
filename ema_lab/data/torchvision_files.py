"""Data sets that torchvision downloads: read from the data root, or downloaded into it."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from ema_lab.data.images import ImageSplits, LabelledImages
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError

Dataset = Any  # torchvision's data sets have `data` and `targets`, but no common type
Open = Callable[[bool, bool], Dataset]  # (train, download)


def open_splits(
    name: str, root: Path, open_part: Open, layout: str, find_faults: Callable[[], Sequence[str]]
) -> ImageSplits:
    """Return both splits of a data set of torchvision.

    Args:
        name: Name of the data set, for messages.
        root: Folder of the data sets; created if something has to be downloaded.
        open_part: Opens the training or the test part, with or without a download.
        layout: Paths that torchvision expects below the root, for messages.
        find_faults: Names each file that is damaged, or absent beside others; empty if all are absent.

    Raises:
        DataError: If the files are absent and cannot be downloaded.
        DamagedDataError: If a file is present, but not the published one.
        UnreadableDataError: If a file cannot be opened.
    """
    try:
        return _splits(open_part, download=False)
    except RuntimeError:
        pass  # torchvision's way of saying that the files are absent or damaged
    except Exception as error:  # its readers raise nearly any class for a truncated or overwritten file
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableDataError(
                f"{name}: {error.filename} cannot be opened: {error.strerror}"
            ) from None
        fault = ", ".join(find_faults()) or _reason(error)
        raise DamagedDataError(_damaged(name, root, fault, layout)) from error
    faults = find_faults()
    is_new_root = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), contextlib.redirect_stdout(sys.stderr):
            return _splits(open_part, download=True)
    except (OSError, RuntimeError) as error:
        if is_new_root:
            _remove_empty(root, root / f".{name}.lock")
        reason = _reason(error)
        if faults:
            fault = f"{', '.join(faults)} (and cannot be downloaded again: {reason})"
            raise DamagedDataError(_damaged(name, root, fault, layout)) from None
        message = f"{name} is not in {root} and cannot be downloaded ({reason}); copy {layout} there"
        raise DataError(message) from None


def _reason(error: Exception) -> str:
    return (str(error).splitlines()[0] if str(error) else type(error).__name__).rstrip(": ")


def _damaged(name: str, root: Path, fault: str, layout: str) -> str:
    return f"{name} in {root} is damaged: {fault}; copy the published {layout} there"


def _remove_empty(root: Path, lock: Path) -> None:
    """Remove the lock and the empty folders of a failed download."""
    lock.unlink(missing_ok=True)
    for folder in [*sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True), root]:
        with contextlib.suppress(OSError):  # the folder is not empty
            folder.rmdir()


def _splits(open_part: Open, *, download: bool) -> ImageSplits:
    train, test = open_part(True, download), open_part(False, download)
    return ImageSplits(_labelled(train), _labelled(test))


def _labelled(part: Dataset) -> LabelledImages:
    images: Tensor = torch.as_tensor(part.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
    return LabelledImages(images.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64))
