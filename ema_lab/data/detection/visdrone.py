"""VisDrone's own files: annotations/NAME.txt beside images/NAME.jpg, ignored regions and boxes included.

A line is `left,top,width,height,score,category,truncation,occlusion`. Category 0 is a region without
annotations, 1 to 10 are the classes, 11 is `others`; a score of 0 marks a box that is ignored.
"""

from collections.abc import Sequence
from pathlib import Path

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size, images_in
from ema_lab.data.detection.scenes import Truth
from ema_lab.files import read_bytes

NAMES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor",
)  # fmt: skip
REGION = 0
OTHERS = 11
_COLUMNS = 8
_LARGEST = 2**31


def read_visdrone(folder: Path, problems: Problems) -> list[AnnotatedImage]:
    """Return the images of a folder with `images` and `annotations`, by their names.

    Raises:
        DataError: If there are no images.
    """
    found = []
    for path in images_in(folder / "images"):
        labels = folder / "annotations" / f"{path.stem}.txt"
        size = image_size(path, problems)
        if size is None:
            continue
        if not labels.is_file():
            rule = f"{path.name} has no annotation file: write one, empty if the image shows nothing"
            problems.add(labels, rule)
            continue
        found.append(AnnotatedImage(path, size, _truth(labels, size, problems)))
    return found


def _truth(path: Path, size: tuple[int, int], problems: Problems) -> Truth:
    boxes: list[list[float]] = []
    classes: list[int] = []
    ignored: list[bool] = []
    regions: list[list[float]] = []
    for number, line in enumerate(read_bytes(path).decode("utf-8", errors="replace").splitlines(), 1):
        parts = [part for part in line.strip().rstrip(",").split(",") if part.strip()]
        if not parts:
            continue
        where = f"{path}:{number}"
        values = _whole_numbers(parts)
        if values is None:
            problems.add(where, f"needs {_COLUMNS} whole numbers, got {line!r:.60}")
            continue
        if len(values) != _COLUMNS or not REGION <= values[5] <= OTHERS:
            problems.add(where, f"needs {_COLUMNS} numbers with a category from 0 to 11, got {line!r:.60}")
            continue
        left, top, width, height, score, category = values[:6]
        corners = [float(left), float(top), float(left + width), float(top + height)]
        if category == REGION:
            regions.append(corners)
        elif category != OTHERS:
            if rule := box_problem(corners, size):
                problems.add(where, rule)
                continue
            boxes.append(inside(corners, size))
            classes.append(category - 1)
            ignored.append(score == 0)
    return Truth.of(boxes, classes, ignored, regions)


def _whole_numbers(parts: Sequence[str]) -> list[int] | None:
    """Return the numbers of a line; None if one is not whole, or too large for a pixel."""
    try:
        values = [int(part) for part in parts]
    except ValueError:
        return None
    return values if all(abs(value) < _LARGEST for value in values) else None
