"""COCO's annotation file (instances_*.json): crowds are ignored in evaluation and not trained on."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size
from ema_lab.data.detection.lines import json_lines
from ema_lab.data.detection.scenes import Truth
from ema_lab.errors import DataError, missing_data_error
from ema_lab.files import read_text

_NEEDED: Mapping[str, Sequence[str]] = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": (),
    "categories": ("id", "name"),
}


def read_coco(path: Path, images: Path, problems: Problems) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return the images of an annotation file, by their ids, and the classes' names.

    Classes count from 0 in the order of the category ids, which have gaps in COCO itself. An image that is
    absent, cannot be read or has another size than the file says is a problem, found before training.

    Raises:
        DataError: If the file cannot be read as COCO's.
    """
    text, document = _document(path)
    categories = sorted(document["categories"], key=lambda item: _sortable(item["id"]))
    number = {item["id"]: place for place, item in enumerate(categories)}
    listed = {item["id"]: item for item in document["images"]}
    boxes: dict[int | str, list[tuple[list[float], int, bool]]] = defaultdict(list)
    broken: dict[int, str] = {}
    for place, item in enumerate(document["annotations"]):
        if rule := _item_problem(item, listed, number):
            broken[place] = rule
            continue
        image = listed[item["image_id"]]
        corners, size = _corners(item["bbox"]), (image["height"], image["width"])
        if rule := box_problem(corners, size):
            broken[place] = rule
            continue
        crowd = bool(item.get("iscrowd", 0))
        boxes[item["image_id"]].append((inside(corners, size), number[item["category_id"]], crowd))
    if broken:
        lines = json_lines(text, "annotations")
        for place, rule in broken.items():
            problems.add(f"{path}:{lines[place]}: annotations[{place}]", rule)
    found = []
    for key, item in sorted(listed.items(), key=lambda pair: _sortable(pair[0])):
        picture, size = images / item["file_name"], (item["height"], item["width"])
        if (actual := image_size(picture, problems)) is None:
            continue
        if actual != size:
            rule = f"is {actual[1]} x {actual[0]} pixels, {path.name} says {size[1]} x {size[0]}"
            problems.add(picture, rule)
            continue
        mine = boxes.get(key, [])
        truth = Truth.of(
            [box for box, _, _ in mine], [cls for _, cls, _ in mine], [crowd for _, _, crowd in mine]
        )
        found.append(AnnotatedImage(picture, size, truth))
    return found, tuple(str(item["name"]) for item in categories)


def _document(path: Path) -> tuple[str, dict[str, Any]]:
    """Return an annotation file's text and its content, with the keys that are needed."""
    try:
        text = read_text(path)
        document = json.loads(text)
    except OSError as error:
        raise missing_data_error(path.parent)(
            f"{path}: {error.strerror}; expected COCO's annotation file"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: is not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    for key, parts in _NEEDED.items():
        items = document.get(key) if isinstance(document, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path}: needs a list {key!r} of objects, as COCO's annotation files have")
        seen: dict[object, int] = {}
        for place, item in enumerate(items):
            rule = _entry_problem(item, parts)
            if rule is None and parts and (first := seen.setdefault(item["id"], place)) != place:
                rule = f"needs an id of its own, got that of {key}[{first}], {item['id']!r:.40}"
            if rule:
                line = json_lines(text, key)[place]
                raise DataError(f"{path}:{line}: {key}[{place}] {rule}")
    return text, dict(document)


def _entry_problem(item: Mapping[str, Any], parts: Sequence[str]) -> str | None:
    """Return the problem of an image's or a category's entry."""
    if absent := [part for part in parts if part not in item]:
        return f"has no {absent[0]!r}"
    if parts and not _is_id(item["id"]):
        return f"needs a number or a name as id, got {item['id']!r:.40}"
    if not isinstance(item.get("file_name", ""), str):
        return f"needs a name as file_name, got {item['file_name']!r:.40}"
    for side in {"height", "width"}.intersection(parts):
        if not isinstance(item[side], int) or isinstance(item[side], bool) or item[side] < 1:
            return f"needs a whole number of pixels as {side}, got {item[side]!r:.40}"
    return None


def _item_problem(
    item: Mapping[str, Any], images: Mapping[int | str, Any], categories: Mapping[int | str, int]
) -> str | None:
    """Return the problem of an annotation, except that of its corners."""
    for key, known in (("image_id", images), ("category_id", categories)):
        if not _is_id(item.get(key)) or item[key] not in known:
            ids = ", ".join(map(repr, list(known)[:8])) + (", ..." if len(known) > 8 else "")
            kind = "an image" if key == "image_id" else "a category"
            return f"{key} must be the id of {kind} ({ids}), got {item.get(key)!r:.40}"
    bbox = item.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        return f"bbox must be [x, y, width, height], got {bbox!r:.60}"
    return None


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _sortable(key: int | str) -> tuple[bool, int | str]:
    """Return a key that puts numbers before names."""
    return isinstance(key, str), key


def _is_number(value: object) -> bool:
    """Return whether a value is a number that fits a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _corners(bbox: Sequence[float]) -> list[float]:
    x, y, width, height = (float(value) for value in bbox)
    return [x, y, x + width, y + height]
