"""Fashion-MNIST (arXiv:1708.07747): 60,000 + 10,000 grey images of 28 x 28, 10 classes."""

import gzip
import shutil
from pathlib import Path

from torchvision.datasets import FashionMNIST

from ema_lab.data.images import ImageSplits
from ema_lab.data.torchvision_files import open_splits
from ema_lab.files import atomic_write

FACTS = {
    "classes": 10,
    "channels": 1,
    "image_size": 28,
    "train_images": 60_000,
    "test_images": 10_000,
    "mean": [0.28604059],
    "std": [0.35302424],
}

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


def fashion_mnist(root: Path) -> ImageSplits:
    """Fashion-MNIST: 10 classes, 60,000 training and 10,000 test images, grey, 28 x 28."""
    if not (root / "FashionMNIST").exists() and DEBIAN_FOLDER.is_dir():
        unpack(DEBIAN_FOLDER, root / "FashionMNIST" / "raw")

    def open_part(train: bool, download: bool) -> FashionMNIST:
        return FashionMNIST(root, train=train, download=download)

    return open_splits("fashion_mnist", root, open_part, "FashionMNIST/raw/*-ubyte")


def unpack(source: Path, target: Path) -> None:
    """Decompress the four files to where torchvision looks for them, each whole or not at all."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*-ubyte.gz")):
        with (
            atomic_write(target / file.stem) as partial,
            gzip.open(file) as compressed,
            partial.open("wb") as plain,
        ):
            shutil.copyfileobj(compressed, plain)
