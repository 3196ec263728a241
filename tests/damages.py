"""Ways in which a document of a run can be damaged."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def changed(path: Path, **changes: object) -> None:
    """Write a JSON document again with some of its values changed; NaN is written as it is."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that puts something else in the place of a file."""

    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def number(key: str, inner: str, value: object) -> Callable[[Path], None]:
    return lambda path: changed(path, **{key: {inner: value}})


BAD_NUMBERS = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "a huge integer": 10**400,
    "a huge float": 1e300,
    "a word": "90",
    "true": True,
    "null": None,
    "a list": [1.0],
}
ENVIRONMENT = json.loads('{"a": ' * 200 + "1" + "}" * 200)
DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"{name} as top1": number("metrics", "top1", value) for name, value in BAD_NUMBERS.items()},
    **{f"{name} as macs": number("cost", "macs", value) for name, value in BAD_NUMBERS.items()},
    "1e400": lambda path: path.write_text(path.read_text().replace(": 1,", ": 1e400,")),
    "versions that are a number": lambda path: changed(path, environment={"versions": 5}),
    "a folder": replaced(Path.mkdir),
    "a pipe": replaced(os.mkfifo),
    "a link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "deeply nested": lambda path: path.write_text("[" * 200_000),
    "nested in the environment": lambda path: changed(path, environment=ENVIRONMENT),
    "another run's": lambda path: changed(path, run_id="0" * 16),
    "a later format": lambda path: changed(path, format=2, news=True),
    "a surrogate as a key": lambda path: changed(path, environment={"versions": {"\ud800": "1"}}),
    "a surrogate in a text": lambda path: changed(path, data_sha256="\udcff"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "empty": lambda path: path.write_text(""),
}
LEFT_ALONE = {"a later format", "a link to itself"}  # not ours to rename: the run is not trained
