"""Python's garbage collector, which would search large libraries again and again while they are imported."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch the garbage collector off for a block of imports: a sixth of Lightning's import is its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
