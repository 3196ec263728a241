"""Cache of what hashes need of this package's files, on the user's disk: parsing takes a fifth of a second.

An entry's key is the content of a file, so that an edited file has another entry. The cache's file is named
after the Python version and the content of the hashing code. A damaged or absent cache is computed anew. As
with Python's own `__pycache__`, a folder that cannot be written stays as it is, and
`PYTHONDONTWRITEBYTECODE` writes none.
"""

import atexit
import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ema_lab.files import read_bytes, write_text

Imports = tuple[tuple[int, str], ...]
Syntax = tuple[str, Imports]  # hash of a file, and level and name of each import
MOST_ENTRIES = 2000  # several versions of the whole package
MAX_BYTES = 2**24


class SyntaxCache:
    """Syntax of files by their content, which is written at the end of the process.

    Args:
        path: File of the cache; None keeps it in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._new: dict[str, Syntax] = {}

    @cached_property
    def _known(self) -> dict[str, Syntax]:
        return {} if self.path is None else _load(self.path)

    def get(self, text: str, compute: Callable[[str], Syntax]) -> Syntax:
        """Return the syntax of a file, computed if the cache lacks it."""
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        known = self._known.get(key) or self._new.get(key)
        if known is None:
            known = compute(text)
            if not self._new and self.path is not None:
                atexit.register(self.write)
            self._new[key] = known
        return known

    def write(self) -> None:
        """Write the new entries, the newest last, beside those that another process has written since."""
        if self.path is None or not self._new or sys.dont_write_bytecode:
            return
        entries = {**_load(self.path), **self._new}
        body = json.dumps(dict(list(entries.items())[-MOST_ENTRIES:]))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, f"{_checksum(body)}\n{body}\n", durable=False)
        except OSError:
            pass  # the next process parses again
        self._new.clear()


def _load(path: Path) -> dict[str, Syntax]:
    """Read a cache; empty if it is absent or damaged."""
    try:
        checksum, _, body = read_bytes(path, MAX_BYTES).decode().partition("\n")
        body = body.removesuffix("\n")
        if checksum != _checksum(body):
            return {}
        return {key: (value, tuple(map(tuple, names))) for key, (value, names) in json.loads(body).items()}
    except (OSError, ValueError):
        return {}


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def cache_file(code: Path) -> Path | None:
    """Return the file of a cache in the user's cache folder; None if the user has none.

    Args:
        code: File of the hashing code, which another version of it changes.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
        digest = hashlib.sha256(code.read_bytes()).hexdigest()[:16]
    except (OSError, RuntimeError):
        return None
    return folder / "ema-lab" / f"syntax-{sys.implementation.cache_tag}-{digest}.json"
