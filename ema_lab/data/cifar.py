"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32."""

from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from ema_lab.data.images import ImageSplits
from ema_lab.data.torchvision_files import open_splits

FACTS = {
    "cifar10": {
        "classes": 10,
        "channels": 3,
        "image_size": 32,
        "train_images": 50_000,
        "test_images": 10_000,
        "mean": [0.49139968, 0.48215827, 0.44653124],
        "std": [0.24703233, 0.24348505, 0.26158768],
    },
    "cifar100": {
        "classes": 100,
        "channels": 3,
        "image_size": 32,
        "train_images": 50_000,
        "test_images": 10_000,
        "mean": [0.50707516, 0.48654887, 0.44091784],
        "std": [0.26733429, 0.25643846, 0.27615047],
    },
}


def cifar10(root: Path) -> ImageSplits:
    """CIFAR-10 (Krizhevsky, 2009): 10 classes, 50,000 training and 10,000 test images, RGB, 32 x 32."""
    return _splits("cifar10", root, CIFAR10)


def cifar100(root: Path) -> ImageSplits:
    """CIFAR-100 (Krizhevsky, 2009): 100 classes, 50,000 training and 10,000 test images, RGB, 32 x 32."""
    return _splits("cifar100", root, CIFAR100)


def _splits(name: str, root: Path, form: type[CIFAR10]) -> ImageSplits:
    def open_part(train: bool, download: bool) -> CIFAR10:
        return form(root, train=train, download=download)

    def find_faults() -> Sequence[str]:
        return _faults(root, form)

    return open_splits(name, root, open_part, f"{form.filename} or {form.base_folder}", find_faults)


def _faults(root: Path, form: type[CIFAR10]) -> Sequence[str]:
    """Name each file that is not the published one, or that the folder lacks."""
    files = {f"{form.base_folder}/{file}": md5 for file, md5 in [*form.train_list, *form.test_list]}
    files[f"{form.base_folder}/{form.meta['filename']}"] = form.meta["md5"]
    if not (root / form.base_folder).exists():
        files = {form.filename: form.tgz_md5} if (root / form.filename).exists() else {}
    damaged = [file for file, md5 in files.items() if not check_integrity(root / file, md5)]
    return [
        f"{file} {'is not the published file' if (root / file).exists() else 'is absent'}" for file in damaged
    ]
