"""Written files against the records: which cell of which file was edited."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ema_lab.reports.check.data import json_differences, plain_place, report_place
from ema_lab.reports.check.difference import Difference, line_differences
from ema_lab.reports.check.figure import drawn_elsewhere, figure_differences
from ema_lab.reports.check.page import page_differences
from ema_lab.reports.check.table import GRIDS, rounded_numbers, table_differences
from ema_lab.reports.files import DATA, PAGE


class Comparison(NamedTuple):
    """What differs, and a line on each file that could not be compared."""

    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]


def compare(folder: Path, built: Mapping[str, str | bytes], unmade: Iterable[str] = ()) -> Comparison:
    """Compare files of a folder, by name, with what they would be; its other files are left alone.

    `unmade`: names of which no file may be there.
    """
    found: list[Difference] = []
    not_compared = []
    for name, content in built.items():
        if isinstance(content, bytes) and (reason := drawn_elsewhere(folder / name, content)):
            not_compared.append(reason)
        else:
            found += differences(folder / name, content)
    problem = "is left over: of the records of now, the report makes no such file"
    found += [Difference(str(folder / name), problem=problem) for name in unmade if (folder / name).exists()]
    return Comparison(tuple(found), tuple(not_compared))


def differences(path: Path, built: str | bytes) -> Iterator[Difference]:
    """Yield a difference for each cell, each value, each other line and each figure that was edited.

    Args:
        path: A file that was written.
        built: What it would be, from the records of now; a figure's is bytes.
    """
    try:
        if isinstance(built, bytes):
            yield from figure_differences(path, path.read_bytes(), built)
            return
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        yield Difference(str(path), problem=f"cannot be read: {reason}")
        return
    if written == built:
        return
    found = list(_text_differences(path, written, built))
    yield from found
    if not found and rounded_numbers(written) != rounded_numbers(built):
        yield Difference(str(path), problem="differs from what the records give in its form alone")


def _text_differences(path: Path, written: str, built: str) -> Iterator[Difference]:
    file = str(path)
    if path.name == PAGE:
        return page_differences(file, written, built)
    if path.suffix == ".json":
        return json_differences(file, written, built, report_place if path.name == DATA else plain_place)
    if path.suffix in GRIDS:
        return table_differences(file, path.suffix, written, built)
    return line_differences(file, "in a line", written.splitlines(), built.splitlines())
