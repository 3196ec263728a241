"""What the rest of the package needs to know of a backbone's family besides its module."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Backbone:
    """An unmodified network and the names of the places in it.

    Attributes:
        module: Takes (B, C, H, W), returns (B, classes).
        stage: Pattern whose group is the stage number, counted from 1, in a submodule's name.
        shortcuts: Glob patterns over submodule names for each named place.
    """

    module: nn.Module
    stage: re.Pattern[str]
    shortcuts: Mapping[str, tuple[str, ...]]

    def stage_of(self, name: str) -> int | None:
        """Return the stage that a submodule belongs to."""
        found = self.stage.match(name)
        return int(found.group(1)) if found else None
