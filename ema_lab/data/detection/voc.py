"""Pascal VOC's XML: one file per image; objects marked difficult are ignored in evaluation."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ema_lab.data.detection.annotation import AnnotatedImage, Problems, box_problem, inside
from ema_lab.data.detection.files import image_size
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
        problems: Where broken objects and images are noted.
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
            problems.add(path.name, f"is larger than {LARGEST_FILE // 2**20} MiB")
            return None
        text = read_bytes(path)
        if b"<!ENTITY" in text:
            problems.add(path.name, "declares entities, which no annotation needs")
            return None
        return ElementTree.fromstring(text)
    except OSError as error:
        problems.add(path.name, error.strerror or str(error))
    except (ElementTree.ParseError, ValueError) as error:
        problems.add(path.name, f"is not XML: {error}")
    return None


def _truth(
    path: Path, root: ElementTree.Element, size: tuple[int, int], names: Sequence[str], problems: Problems
) -> Truth:
    boxes: list[list[float]] = []
    classes: list[int] = []
    ignored: list[bool] = []
    for number, item in enumerate(root.iter("object"), 1):
        where = f"{path.name}: object {number}"
        name = (item.findtext("name") or "").strip()
        if name not in names:
            problems.add(where, f"no class is named {name!r}; known: {', '.join(names)}")
            continue
        edges = [item.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        try:
            corners = [float(edge or "") for edge in edges]
        except ValueError:
            problems.add(where, f"bndbox needs four numbers, got {edges}")
            continue
        if rule := box_problem(corners, size):
            problems.add(where, rule)
            continue
        boxes.append(inside(corners, size))
        classes.append(names.index(name))
        ignored.append((item.findtext("difficult") or "0").strip() == "1")
    return Truth.of(boxes, classes, ignored)
