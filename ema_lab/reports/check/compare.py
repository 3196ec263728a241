"""Comparison of written report files with the records: the edited cells of each file."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ema_lab.files import read_bytes, read_text
from ema_lab.reports.check.data import json_differences, name_by_keys, name_in_report
from ema_lab.reports.check.difference import Difference, line_differences
from ema_lab.reports.check.figure import drawn_elsewhere, figure_differences
from ema_lab.reports.check.page import page_differences
from ema_lab.reports.check.table import GRIDS, rounded_numbers, table_differences
from ema_lab.reports.files import DATA, PAGE


class Comparison(NamedTuple):
    """Differences, and a line for each file that could not be compared."""

    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]


def compare(folder: Path, built: Mapping[str, str | bytes], unmade: Iterable[str] = ()) -> Comparison:
    """Compare the named files of a folder with those built from the records; ignore its other files.

    `unmade`: names of files that must not exist.
    """
    found_differences: list[Difference] = []
    not_compared = []
    for name, content in built.items():
        if isinstance(content, bytes) and (reason := drawn_elsewhere(folder / name, content)):
            not_compared.append(reason)
        else:
            found_differences += differences(folder / name, content)
    problem = "is left over: the report makes no such file from the current records"
    found_differences += [
        Difference(str(folder / name), problem=problem) for name in unmade if (folder / name).exists()
    ]
    return Comparison(tuple(found_differences), tuple(not_compared))


def differences(path: Path, built: str | bytes) -> Iterator[Difference]:
    """Yield a difference for each edited cell, value, other line and figure.

    Args:
        path: File that was written.
        built: Content that the current records give; bytes for a figure.
    """
    try:
        if isinstance(built, bytes):
            yield from figure_differences(path, read_bytes(path), built)
            return
        written = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        yield Difference(str(path), problem=f"cannot be read: {reason}")
        return
    if written == built:
        return
    text_differences = list(_text_differences(path, written, built))
    yield from text_differences
    if not text_differences and rounded_numbers(written) != rounded_numbers(built):
        yield Difference(str(path), problem="differs from the rebuilt file, but only in its formatting")


def _text_differences(path: Path, written: str, built: str) -> Iterator[Difference]:
    file = str(path)
    if path.name == PAGE:
        return page_differences(file, written, built)
    if path.suffix == ".json":
        return json_differences(file, written, built, name_in_report if path.name == DATA else name_by_keys)
    if path.suffix in GRIDS:
        return table_differences(file, path.suffix, written, built)
    return line_differences(file, "in a line", written.splitlines(), built.splitlines())
