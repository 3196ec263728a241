"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32."""

from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

from ema_lab.data.images import ImageSplits
from ema_lab.data.torchvision_files import open_splits


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
