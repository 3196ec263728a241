"""Log of a run: log records and warnings, in a file of its folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append log records and warnings to a file while a block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    original = warnings.showwarning

    def log_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        root.warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)

    warnings.showwarning = log_warning
    try:
        yield
    finally:
        warnings.showwarning = original
        root.removeHandler(handler)
        handler.close()
