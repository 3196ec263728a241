"""New data sets from a user's images: a file of code with the facts as measured."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.errors import SpecError
from ema_lab.wording import number_of
from ema_lab.workflow.define.template import NewFile, title_of, write_new
from ema_lab.workflow.execution import DEFAULT_DATA

if TYPE_CHECKING:
    from ema_lab.data.measure import Measured

SHOWN_NAMES = 4  # classes that the docstring lists, and files that a remark names
CODE = '''\
"""{title}: {description}."""

from pathlib import Path

from {module} import {function}
from ema_lab.data.images import ImageSplits

# Measured from {read}: shorter sides of {least} to {greatest} pixels, {median} in the middle.
FACTS = {{
    "classes": {classes},
    "channels": {channels},
    "image_size": {image_size},
    "train_images": {train_images},
    "test_images": {test_images},
    "mean": {mean},
    "std": {std},
}}
SHA256 = "{sha256}"  # of names, sizes and labels of all files


def {name}(root: Path) -> ImageSplits:
    """{summary}.

    Args:
        root: Folder of the data sets (--data).
    """
    splits = {function}(
        root / "{folder}",
        image_size=FACTS["image_size"],
        channels=FACTS["channels"],
        train="{train}",
        test="{test}",
    )
    return splits.checked(SHA256)
'''


def measured_dataset(
    name: str,
    folder: Path,
    *,
    data: Path = DEFAULT_DATA,
    image_size: int | None = None,
    sample: int | None = None,
    workers: int = 0,
    seen: Callable[[int, int], None] = lambda done, total: None,
) -> NewFile:
    """Measure the images of a folder once, and write NAME.py with a data set of them.

    Args:
        name: Name of the file and of the data set.
        folder: Folder of the images; it lies below `data`.
        data: Folder of the data sets.
        image_size: Height and width of the resulting images; by default 224, or less for smaller images.
        sample: Number of images to read of each split; all by default.
        workers: Number of processes that read.
        seen: Receives the number of images that were read, and of all to read.

    Raises:
        SpecError: If the name is not valid, the file exists, or the folder does not lie below `data`.
        DataError: If the images cannot be read as a data set.
    """
    from ema_lab.data.measure import measure  # loads torch

    below = _below(folder, data)
    remarks: list[str] = []

    def text() -> str:
        facts = measure(folder, image_size=image_size, sample=sample, workers=workers, seen=seen)
        remarks.append(_unused(folder, facts))
        return _code(name, below, facts)

    file = write_new("dataset", name, text)
    return replace(file, remark=remarks[0])


def _unused(folder: Path, facts: "Measured") -> str:
    """Return which files the data set does not use; nothing if it uses all."""
    if not facts.unused:
        return ""
    count = len(facts.unused)
    shown = [str(folder / path) for path in facts.unused[:SHOWN_NAMES]] + ["..."] * (count > SHOWN_NAMES)
    return f"{number_of(count, 'file')} without an image's ending, not used: {', '.join(shown)}"


def _below(folder: Path, data: Path) -> str:
    """Return the path of a folder from the folder of the data sets."""
    if not folder.is_dir():
        inside = data / folder
        hint = f"; did you mean {inside}? --from is a path from here" if inside.is_dir() else ""
        raise SpecError(f"{folder} is no folder{hint}")
    if not folder.resolve().is_relative_to(data.resolve()):
        rule = "runs look for images there; move or link the folder, or name another --data"
        raise SpecError(f"{folder} does not lie below the folder of the data sets, {data}: {rule}")
    return folder.resolve().relative_to(data.resolve()).as_posix()


def _code(name: str, folder: str, facts: "Measured") -> str:
    listed = ", ".join(facts.names[:SHOWN_NAMES]) + (", ..." if len(facts.names) > SHOWN_NAMES else "")
    of = f" ({listed})" if facts.names else ""
    colour = "grey" if facts.channels == 1 else "in colour"
    description = f"images of {number_of(facts.classes, 'class')}{of} in {folder}, {colour}"
    least, median, greatest = facts.sides
    every = facts.read == facts.train_images + facts.test_images
    read = f"{'all' if every else 'a sample of'} {number_of(facts.read, 'image')}"
    return CODE.format(
        name=name,
        title=title_of(name),
        description=_escaped(description),
        summary=_escaped(description[0].upper() + description[1:]),
        module=facts.layout.read.__module__,
        function=facts.layout.read.__name__,
        read=read,
        least=least,
        median=median,
        greatest=greatest,
        classes=facts.classes,
        channels=facts.channels,
        image_size=facts.image_size,
        train_images=facts.train_images,
        test_images=facts.test_images,
        mean=list(facts.mean),
        std=list(facts.std),
        sha256=facts.sha256,
        folder=_escaped(folder),
        train=facts.layout.train,
        test=facts.layout.test,
    )


def _escaped(text: str) -> str:
    """Escape a text for a string literal in code."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
