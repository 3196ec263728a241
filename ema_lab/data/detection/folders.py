"""Detection data sets of a user: COCO, VisDrone, Pascal VOC and YOLO's text folders, read as they are.

Every broken entry of a file is reported with its line. Up to `max_broken` broken entries of a split are left
out and logged; with more, loading fails. Nothing is dropped silently.
"""

import logging
from pathlib import Path

from ema_lab.data.detection.annotation import AnnotatedImage, Problems
from ema_lab.data.detection.coco import read_coco
from ema_lab.data.detection.files import SceneFiles
from ema_lab.data.detection.scenes import SceneSplits
from ema_lab.data.detection.visdrone import NAMES as VISDRONE_NAMES
from ema_lab.data.detection.visdrone import read_visdrone
from ema_lab.data.detection.voc import read_voc
from ema_lab.data.detection.yolo import read_data_yaml, read_yolo
from ema_lab.errors import DataError, missing_data_error
from ema_lab.files import read_text

FACTS = {
    "coco": {"task": "detection", "channels": 3, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    "visdrone": {
        "task": "detection", "channels": 3, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "classes": 10,
    },
    "voc": {"task": "detection", "channels": 3, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    "yolo": {"task": "detection", "channels": 3, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
}  # fmt: skip
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def coco(
    root: Path,
    *,
    folder: str = "coco",
    train: str = "instances_train2017",
    test: str = "instances_val2017",
    train_folder: str = "train2017",
    test_folder: str = "val2017",
    classes: int = 80,
    image_size: int = 640,
    train_images: int = 118287,
    test_images: int = 5000,
    max_broken: int = 0,
) -> SceneSplits:
    """COCO's annotation files, its own or in its form; crowds are ignored.

    Args:
        root: Where the folder is.
        folder: Holds `annotations`, and a folder of images for each split.
        train: Annotation file of the training images, without `.json`.
        test: Annotation file of the test images.
        train_folder: Folder of the training images.
        test_folder: Folder of the test images.
        classes: Number of classes.
        image_size: Height and width of the images of a batch, in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        max_broken: Broken boxes or images that are left out of a split before loading fails.
    """
    base = root / folder
    found = []
    for file, images in ((train, train_folder), (test, test_folder)):
        path, problems = base / "annotations" / f"{file}.json", Problems(max_broken)
        listed, names = read_coco(path, base / images, problems)
        found.append((_split(listed, base / images, problems), names))
    if found[0][1] != found[1][1]:
        raise DataError(f"{base}: {train} and {test} have different categories")
    return SceneSplits(found[0][0], found[1][0], found[0][1])


def visdrone(
    root: Path,
    *,
    folder: str = "visdrone",
    train: str = "VisDrone2019-DET-train",
    test: str = "VisDrone2019-DET-val",
    image_size: int = 640,
    train_images: int = 6471,
    test_images: int = 548,
    max_broken: int = 0,
) -> SceneSplits:
    """VisDrone's own files; ignored regions and boxes with a score of 0 count neither way.

    Args:
        root: Where the folder is.
        folder: Holds a folder with `images` and `annotations` for each split.
        train: Folder of the training images.
        test: Folder of the test images.
        image_size: Height and width of the images of a batch, in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        max_broken: Broken boxes or images that are left out of a split before loading fails.
    """
    parts = []
    for name in (train, test):
        base, problems = root / folder / name, Problems(max_broken)
        parts.append(_split(read_visdrone(base, problems), base, problems))
    return SceneSplits(parts[0], parts[1], VISDRONE_NAMES)


def voc(
    root: Path,
    *,
    folder: str = "VOCdevkit/VOC2012",
    train: str = "train",
    test: str = "val",
    names: list[str] | None = None,
    classes: int = 20,
    image_size: int = 640,
    train_images: int = 5717,
    test_images: int = 5823,
    max_broken: int = 0,
) -> SceneSplits:
    """Pascal VOC's XML files; objects marked difficult are ignored.

    Args:
        root: Where the folder is.
        folder: Holds `Annotations`, `JPEGImages` and `ImageSets/Main`.
        train: List of the training images in `ImageSets/Main`, without `.txt`.
        test: List of the test images.
        names: Names of the classes; by default the twenty of Pascal VOC.
        classes: Number of classes.
        image_size: Height and width of the images of a batch, in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        max_broken: Broken objects or images that are left out of a split before loading fails.
    """
    base, known = root / folder, tuple(names or VOC_NAMES)
    parts = []
    for name in (train, test):
        path, problems = base / "ImageSets" / "Main" / f"{name}.txt", Problems(max_broken)
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            rule = "expected the name of an image in each line"
            raise missing_data_error(path.parent)(f"{path} cannot be read: {error}; {rule}") from None
        files = [base / "Annotations" / f"{line.split()[0]}.xml" for line in lines if line.strip()]
        parts.append(_split(read_voc(files, base / "JPEGImages", known, problems), base, problems))
    return SceneSplits(parts[0], parts[1], known)


def yolo(
    root: Path,
    *,
    file: str = "coco128/data.yaml",
    classes: int = 80,
    train_images: int = 128,
    test_images: int = 128,
    image_size: int = 640,
    max_broken: int = 0,
) -> SceneSplits:
    """YOLO's text folders, as a `data.yaml` names them; its `val` is the test split here.

    Args:
        root: Where the file is.
        file: The `data.yaml`.
        classes: Number of classes.
        train_images: Number of training images.
        test_images: Number of test images.
        image_size: Height and width of the images of a batch, in pixels.
        max_broken: Broken lines or images that are left out of a split before loading fails.
    """
    known = read_data_yaml(root / file)
    parts = []
    for name in ("train", "val"):
        problems = Problems(max_broken)
        listed = read_yolo(known[name], len(known["names"]), problems)
        parts.append(_split(listed, known[name], problems))
    return SceneSplits(parts[0], parts[1], known["names"])


def _split(listed: list[AnnotatedImage], folder: Path, problems: Problems) -> SceneFiles:
    problems.check()
    for problem in problems.entries:
        logging.getLogger(__name__).warning("left out: %s", problem)
    return SceneFiles(listed, folder)
