"""Pascal VOC's XML: one file per image; objects marked difficult are ignored in evaluation."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size
from ema_lab.data.detection.lines import xml_lines
from ema_lab.data.detection.scenes import Truth
from ema_lab.files import read_bytes

LARGEST_FILE = 64 * 2**20  # bytes of an annotation file that is read


def read_voc(
    files: Sequence[Path], images: Path, names: Sequence[str], problems: Problems
) -> list[AnnotatedImage]:
    """Return the images that annotation files name.

    Args:
        files: The annotation files.
        images: Folder of the images.
        names: The classes' names, in their order.
        problems: Collects broken objects and images.
    """
    found = []
    for path in files:
        root = _root(path, problems)
        if root is None:
            continue
        picture = images / Path(root.findtext("filename") or f"{path.stem}.jpg").name
        size = image_size(picture, problems)
        if size is not None:
            found.append(AnnotatedImage(picture, size, _truth(path, root, size, names, problems)))
    return found


def _root(path: Path, problems: Problems) -> ElementTree.Element | None:
    """Return an annotation file's root. XML entities are refused: they can expand without limit."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            problems.add(path, f"must have at most {LARGEST_FILE // 2**20} MiB")
            return None
        text = read_bytes(path)
        if b"<!ENTITY" in text:
            problems.add(path, "must not declare entities, which no annotation needs")
            return None
        return ElementTree.fromstring(text)
    except OSError as error:
        rule = "expected an annotation file for each listed image"
        problems.add(path, f"{error.strerror or error}; {rule}")
    except ElementTree.ParseError as error:
        problems.add(f"{path}:{error.position[0]}", f"is not XML: {error}")
    except (ValueError, LookupError) as error:  # such as an unknown encoding
        problems.add(path, f"is not XML: {error}")
    return None


def _truth(
    path: Path, root: ElementTree.Element, size: tuple[int, int], names: Sequence[str], problems: Problems
) -> Truth:
    boxes: list[list[float]] = []
    classes: list[int] = []
    ignored: list[bool] = []
    broken: dict[int, str] = {}
    for number, item in enumerate(root.iter("object")):
        name = (item.findtext("name") or "").strip()
        if name not in names:
            broken[number] = f"its name must be a class ({', '.join(names)}), got {name!r:.40}"
            continue
        edges = [item.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        try:
            corners = [float(edge or "") for edge in edges]
        except ValueError:
            broken[number] = f"bndbox needs the numbers xmin, ymin, xmax, ymax, got {edges}"
            continue
        if rule := box_problem(corners, size):
            broken[number] = rule
            continue
        boxes.append(inside(corners, size))
        classes.append(names.index(name))
        ignored.append((item.findtext("difficult") or "0").strip() == "1")
    if broken:
        lines = xml_lines(read_bytes(path), "object")
        for number, rule in broken.items():
            problems.add(f"{path}:{lines[number]}: object {number + 1}", rule)
    return Truth.of(boxes, classes, ignored)
