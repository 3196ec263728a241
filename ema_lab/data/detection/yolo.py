"""YOLO's text folders: images/NAME.jpg and labels/NAME.txt, named by a `data.yaml`.

A line is `class x y width height` as shares of the image, or a class and a polygon, whose bounds are taken.
An image without a label file, or with an empty one, has no objects; the number of missing label files is
logged.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size, images_in
from ema_lab.data.detection.scenes import Truth
from ema_lab.errors import DataError, missing_data_error
from ema_lab.files import read_text
from ema_lab.wording import number_of

TOLERANCE = 1e-3  # by which a share may leave the image, for rounding


def read_data_yaml(path: Path) -> dict[str, Any]:
    """Return the folders of both splits and the classes' names of a `data.yaml`.

    Raises:
        DataError: If the file lacks one of them.
    """
    try:
        tree = yaml.safe_load(read_text(path))
    except OSError as error:
        raise missing_data_error(path.parent)(
            f"{path}: {error.strerror}; expected a YOLO data set's data.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not {"train", "val", "names"} <= tree.keys():
        got = ", ".join(map(str, tree)) if isinstance(tree, dict) else repr(tree)
        raise DataError(f"{path}: needs the keys train, val and names, got {got:.80}")
    for part in ("train", "val"):
        if not isinstance(tree[part], str):
            raise DataError(f"{path}: {part} must name one folder of images, got {tree[part]!r:.60}")
    names = tree["names"]
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError(f"{path}: names must count from 0 without gaps, got {list(names)[:8]}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names must be a list or a mapping of numbers to names, got {names!r:.60}")
    base = path.parent / str(tree.get("path", "."))
    return {
        "train": base / tree["train"],
        "val": base / tree["val"],
        "names": tuple(map(str, names)),
    }


def read_yolo(images: Path, classes: int, problems: Problems) -> list[AnnotatedImage]:
    """Return the images of a folder, sorted by name. Labels are in the folder `labels` beside `images`.

    Raises:
        DataError: If there are no images, or none has a label file.
    """
    listed, found = images_in(images), []
    without = [path for path in listed if not label_file(path).exists()]
    if len(without) == len(listed):
        raise DataError(f"{images}: no image has a label file; expected {label_file(listed[0])}, for example")
    if without:
        text = "%d of %d images in %s have no label file, such as %s: they show nothing"
        logging.getLogger(__name__).warning(text, len(without), len(listed), images, without[0].name)
    for path in listed:
        size = image_size(path, problems)
        if size is not None:
            found.append(AnnotatedImage(path, size, _truth(label_file(path), size, classes, problems)))
    return found


def label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder called `images` becomes `labels`."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _truth(path: Path, size: tuple[int, int], classes: int, problems: Problems) -> Truth:
    boxes: list[list[float]] = []
    kinds: list[int] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(path, problems), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        if (first := seen.setdefault(line.strip(), number)) != number:
            problems.add(where, f"each box needs a line of its own, got that of line {first} again")
            continue
        try:
            cls, *shares = (float(part) for part in line.split())
        except ValueError:
            problems.add(where, f"needs a class and 4 numbers, or a class and a polygon, got {line!r:.60}")
            continue
        corners, rule = _corners(shares, size)
        if not 0 <= cls < classes or cls != int(cls):
            rule = f"a class must be a whole number from 0 to {classes - 1}, got {cls:g}"
        if rule := rule or box_problem(corners, size):
            problems.add(where, rule)
            continue
        boxes.append(inside(corners, size))
        kinds.append(int(cls))
    return Truth.of(boxes, kinds)


def _lines(path: Path, problems: Problems) -> Iterable[str]:
    try:
        return read_text(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.add(path, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        problems.add(path, f"cannot be read: {error}; labels must be UTF-8 text")
    return []


def _corners(shares: list[float], size: tuple[int, int]) -> tuple[list[float], str | None]:
    """Return a line's box in pixels, and what is wrong with the line."""
    height, width = size
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        numbers = number_of(len(shares) + 1, "number")
        return [], f"needs a class and 4 numbers, or a class and a polygon, got {numbers}"
    if not all(-TOLERANCE <= share <= 1 + TOLERANCE for share in shares):
        return [], f"shares of the image must lie between 0 and 1, got {shares[:4]}"
    if len(shares) == 4:
        x, y, w, h = shares
        return [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], None
    across, down = shares[::2], shares[1::2]
    return [min(across) * width, min(down) * height, max(across) * width, max(down) * height], None
