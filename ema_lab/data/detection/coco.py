"""COCO's annotation file (instances_*.json): crowds are ignored in evaluation and not trained on."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size
from ema_lab.data.detection.scenes import Truth
from ema_lab.errors import DataError
from ema_lab.files import read_text


def read_coco(path: Path, images: Path, problems: Problems) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return the images of an annotation file, by their ids, and the classes' names.

    Classes count from 0 in the order of the category ids, which have gaps in COCO itself. An image that is
    absent, cannot be read or has another size than the file says is a problem, found before training.

    Raises:
        DataError: If the file cannot be read as COCO's.
    """
    document = _document(path)
    categories = sorted(document["categories"], key=lambda item: item["id"])
    number = {item["id"]: place for place, item in enumerate(categories)}
    listed = {item["id"]: item for item in document["images"]}
    boxes: dict[int, list[tuple[list[float], int, bool]]] = defaultdict(list)
    for place, item in enumerate(document["annotations"]):
        where = f"{path.name}: annotations[{place}]"
        if not _is_id(item.get("image_id")) or item["image_id"] not in listed:
            problems.add(where, f"no image has the id {item.get('image_id')!r:.40}")
        elif not _is_id(item.get("category_id")) or item["category_id"] not in number:
            problems.add(where, f"no category has the id {item.get('category_id')!r:.40}")
        elif (corners := _corners(item.get("bbox"))) is None:
            problems.add(where, f"bbox must be [x, y, width, height], got {item.get('bbox')!r}")
        else:
            size = listed[item["image_id"]]["height"], listed[item["image_id"]]["width"]
            if rule := box_problem(corners, size):
                problems.add(where, rule)
            else:
                crowd = bool(item.get("iscrowd", 0))
                boxes[item["image_id"]].append((inside(corners, size), number[item["category_id"]], crowd))
    found = []
    for key, item in sorted(listed.items()):
        picture, size = images / item["file_name"], (item["height"], item["width"])
        if (shown := image_size(picture, problems)) is None:
            continue
        if shown != size:
            told = f"is {shown[1]} x {shown[0]} pixels, {path.name} says {size[1]} x {size[0]}"
            problems.add(picture.name, told)
            continue
        mine = boxes.get(key, [])
        truth = Truth.of(
            [box for box, _, _ in mine], [cls for _, cls, _ in mine], [crowd for _, _, crowd in mine]
        )
        found.append(AnnotatedImage(picture, size, truth))
    return found, tuple(str(item["name"]) for item in categories)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected COCO's annotation file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    needed = {
        "images": ("id", "file_name", "height", "width"),
        "annotations": (),
        "categories": ("id", "name"),
    }
    for key, parts in needed.items():
        items = document.get(key) if isinstance(document, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path}: needs a list {key!r} of objects, as COCO's annotation files have")
        for place, item in enumerate(items):
            if absent := [part for part in parts if part not in item]:
                raise DataError(f"{path}: {key}[{place}] has no {absent[0]!r}")
            if parts and not _is_id(item["id"]):
                raise DataError(
                    f"{path}: {key}[{place}] needs a number or a name as id, got {item['id']!r:.40}"
                )
            if not isinstance(item.get("file_name", ""), str):
                raise DataError(
                    f"{path}: {key}[{place}] needs a name as file_name, got {item['file_name']!r:.40}"
                )
    return dict(document)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _corners(bbox: object) -> list[float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in bbox):
        return None
    x, y, width, height = (float(value) for value in bbox)
    return [x, y, x + width, y + height]
