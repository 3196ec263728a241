"""Classification sets that a user has: a folder per class, a CSV list, or tar shards as of WebDataset.

The facts (classes, numbers of images, statistics) are options, so that planning reads no image.
`ema-lab new dataset NAME --from FOLDER` measures them once and writes a data set with them. The defaults are
those of Imagenette (https://github.com/fastai/imagenette).
"""

from pathlib import Path

from ema_lab.data.image_folder import image_folder_splits
from ema_lab.data.image_list import image_list_splits
from ema_lab.data.images import ImageSplits
from ema_lab.data.shards import shard_splits

FACTS = {  # statistics of ImageNet, unless the options say otherwise
    "imagefolder": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "csv": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "shards": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def imagefolder(
    root: Path,
    *,
    folder: str = "imagenette2",
    classes: int = 10,
    train_images: int = 9469,
    test_images: int = 3925,
    image_size: int = 224,
    channels: int = 3,
    train: str = "train",
    test: str = "val",
    upright: bool = False,
) -> ImageSplits:
    """Image files in one folder per class, as torchvision's ImageFolder reads them.

    Args:
        root: Where the folder is.
        folder: Holds the folders of the splits.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Folder of the training split.
        test: Folder of the test split.
        upright: Whether to rotate each image by its EXIF orientation.
    """
    return image_folder_splits(
        root / folder, image_size=image_size, channels=channels, train=train, test=test, upright=upright
    )


def csv(
    root: Path,
    *,
    folder: str = "imagenette2",
    classes: int = 10,
    train_images: int = 9469,
    test_images: int = 3925,
    image_size: int = 224,
    channels: int = 3,
    train: str = "train.csv",
    test: str = "test.csv",
    upright: bool = False,
) -> ImageSplits:
    """Image files that a CSV file per split lists, with the columns `path` and `label`.

    Args:
        root: Where the folder is.
        folder: Holds the CSV files; paths in them count from there.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: File of the training split.
        test: File of the test split.
        upright: Whether to rotate each image by its EXIF orientation.
    """
    return image_list_splits(
        root / folder, image_size=image_size, channels=channels, train=train, test=test, upright=upright
    )


def shards(
    root: Path,
    *,
    folder: str = "imagenette2",
    classes: int = 10,
    train_images: int = 9469,
    test_images: int = 3925,
    image_size: int = 224,
    channels: int = 3,
    train: str = "train-*.tar",
    test: str = "val-*.tar",
    upright: bool = False,
) -> ImageSplits:
    """Tar shards as of WebDataset: image and class of a sample side by side, uncompressed.

    Args:
        root: Where the folder is.
        folder: Holds the shards.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Pattern of the names of the training split's shards.
        test: Pattern of the names of the test split's shards.
        upright: Whether to rotate each image by its EXIF orientation.
    """
    return shard_splits(
        root / folder, image_size=image_size, channels=channels, train=train, test=test, upright=upright
    )
