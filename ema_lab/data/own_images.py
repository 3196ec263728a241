"""Classification data sets of a user: a folder per class, a CSV list, or WebDataset's tar shards.

The facts (classes, numbers of images, statistics) are options, so that planning reads no image.
`ema-lab new dataset NAME --from FOLDER` measures them once and writes a data set with them. The defaults are
those of Imagenette (https://github.com/fastai/imagenette).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ema_lab.data.image_folder import image_folder_splits
from ema_lab.data.image_list import image_list_splits
from ema_lab.data.images import ImageSplits
from ema_lab.data.shards import shard_splits
from ema_lab.errors import DataError

FACTS = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}  # ImageNet's, unless options say otherwise
READERS: Mapping[str, Callable[..., ImageSplits]] = {
    "folders": image_folder_splits,
    "lists": image_list_splits,
    "shards": shard_splits,
}


def own_images(
    root: Path,
    form: str,
    *,
    folder: str = "imagenette2",
    classes: int = 10,
    train_images: int = 9469,
    test_images: int = 3925,
    image_size: int = 224,
    channels: int = 3,
    train: str | None = None,
    test: str | None = None,
    upright: bool = False,
    shorter_side: int | None = None,
) -> ImageSplits:
    """Your own images: a folder per class, CSV lists of files, or WebDataset's tar shards.

    Args:
        root: Where the folder is.
        form: Key of `READERS`.
        folder: Folder of the images, of the lists, or of the shards.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Training split; by default the folder `train`, the list train.csv, or the shards train-*.tar.
        test: Test split; by default the folder `val`, the list test.csv, or the shards val-*.tar.
        upright: Whether to rotate each image by its EXIF orientation.
        shorter_side: Shorter side, in pixels, to which larger images are resized once. They are kept beside
            the folder as JPEG files of quality 95, so that pixels change; None reads the files as they are.
            Not for shards.

    Raises:
        DataError: If the images cannot be read, or shards are to be resized.
    """
    if form == "shards" and shorter_side is not None:
        rule = "ema-lab prepare X --shards FOLDER writes shards of resized images"
        raise DataError(
            f"{root / folder}: shorter_side is for folders and lists of files, not for shards; {rule}"
        )
    given = {"train": train, "test": test, "shorter_side": shorter_side}
    more = {key: value for key, value in given.items() if value is not None}
    return READERS[form](root / folder, image_size=image_size, channels=channels, upright=upright, **more)
