"""Fashion-MNIST (arXiv:1708.07747): 60,000 + 10,000 grey images of 28 x 28, 10 classes."""

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

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

FOLDER = "FashionMNIST/raw"
READERS = {"images-idx3-ubyte": read_image_file, "labels-idx1-ubyte": read_label_file}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


def fashion_mnist(root: Path) -> ImageSplits:
    """Fashion-MNIST (arXiv:1708.07747): 10 classes, 60,000 training and 10,000 test images, grey, 28 x 28."""
    if not (root / "FashionMNIST").exists() and DEBIAN_FOLDER.is_dir():
        unpack(DEBIAN_FOLDER, root / FOLDER)

    def open_part(train: bool, download: bool) -> FashionMNIST:
        return FashionMNIST(root, train=train, download=download)

    def find_faults() -> Sequence[str]:
        return _faults(root)

    return open_splits("fashion_mnist", root, open_part, f"{FOLDER}/*-ubyte", find_faults)


def _faults(root: Path) -> Sequence[str]:
    """Name each file that torchvision cannot read, or that the folder lacks."""
    files = {
        root / FOLDER / f"{part}-{end}": read for part in ("train", "t10k") for end, read in READERS.items()
    }
    if not any(path.exists() for path in files):
        return []
    faults = ((path, _fault(path, read)) for path, read in files.items())
    return [f"{path.relative_to(root)} {fault}" for path, fault in faults if fault]


def _fault(path: Path, read: Callable[[str], Tensor]) -> str | None:
    if not path.exists():
        return "is absent"
    try:
        read(str(path))
    except Exception:  # a malformed file raises nearly any class
        return "is not the published file"
    return None


def unpack(source: Path, target: Path) -> None:
    """Decompress the four files into torchvision's folder, each atomically."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*-ubyte.gz")):
        with (
            atomic_write(target / file.stem) as partial,
            gzip.open(file) as compressed,
            partial.open("wb") as plain,
        ):
            shutil.copyfileobj(compressed, plain)
