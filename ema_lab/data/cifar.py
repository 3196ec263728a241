"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32."""

from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

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
    """CIFAR-10: 10 classes, 50,000 training and 10,000 test images, RGB, 32 x 32."""

    def open_part(train: bool, download: bool) -> CIFAR10:
        return CIFAR10(root, train=train, download=download)

    return open_splits("cifar10", root, open_part, "cifar-10-python.tar.gz or cifar-10-batches-py")


def cifar100(root: Path) -> ImageSplits:
    """CIFAR-100: 100 classes, 50,000 training and 10,000 test images, RGB, 32 x 32."""

    def open_part(train: bool, download: bool) -> CIFAR100:
        return CIFAR100(root, train=train, download=download)

    return open_splits("cifar100", root, open_part, "cifar-100-python.tar.gz or cifar-100-python")
