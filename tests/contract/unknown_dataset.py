"""Data set without FACTS."""

from pathlib import Path
from typing import Any

import wrong_dataset


def build(root: Path) -> Any:
    return wrong_dataset.build(root)
