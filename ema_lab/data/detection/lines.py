"""Line numbers of entries in annotation files, for messages: JSON and XML parsers report none.

A file is read a second time, and only after a problem was found in it.
"""

import json
import re
from collections.abc import Iterator
from xml.parsers import expat

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def json_lines(text: str, key: str) -> list[int]:
    """Return the line of each item of a list that the object of a JSON file has under a key."""
    for name, place in _parts(text, _after(text, 0) + 1):
        if name == key:
            starts = list(_items(text, place + 1))
            break
    else:
        return []
    lines, line, before = [], 1, 0
    for start in starts:
        line += text.count("\n", before, start)
        before = start
        lines.append(line)
    return lines


def _parts(text: str, place: int) -> Iterator[tuple[str, int]]:
    """Yield the keys of an object, and where their values start."""
    while text[place := _after(text, place)] != "}":
        name, place = _DECODER.raw_decode(text, place)
        place = _after(text, _after(text, place) + 1)
        yield name, place
        place = _after_value(text, place)


def _items(text: str, place: int) -> Iterator[int]:
    """Yield where the items of a list start."""
    while text[place := _after(text, place)] != "]":
        yield place
        place = _after_value(text, place)


def _after_value(text: str, place: int) -> int:
    """Return the place behind a value and the comma that may follow it."""
    _, place = _DECODER.raw_decode(text, place)
    place = _after(text, place)
    return place + 1 if text[place] == "," else place


def _after(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def xml_lines(text: bytes, tag: str) -> list[int]:
    """Return the line on which each element with a tag starts."""
    parser, lines = expat.ParserCreate(), []

    def start(name: str, _attributes: object) -> None:
        if name == tag:
            lines.append(parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.Parse(text, True)
    return lines
