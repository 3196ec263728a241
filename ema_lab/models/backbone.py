"""What the rest of the package needs to know of a backbone besides its module: its blocks and places.

A *place* is a name for the point after one submodule of a block:

- `block_end`: where a block's own computation ends. With an addition: before it, after the last norm of
  the residual branch. DenseNet: after a dense layer's new channels, before they are concatenated.
  ShuffleNet: after the block's concatenation and shuffle. VGG, where a block is one convolution: after
  its activation. ConvNeXt: before layer scale in torchvision's code, after it in timm's. Where the end
  of the branch is no submodule (Inception, SqueezeNet, RepVGG, MobileOne, EdgeNeXt's SplitTransposeBlock):
  after the whole block.
- `after_conv1`, `after_conv2`, `after_conv3`: after a convolution, before its norm.
- `after_depthwise`: after the depthwise convolution with its norm and activation (ConvNeXt: before its
  norm, which works channels-last).
- `stage_end`: after the last block of each stage, additions and activations included. DenseNet: after
  the norm that takes what the stage has concatenated.

A stage is a run of blocks between two halvings of the resolution, counted from 1; the stem is none.
HRNet, whose branches are parallel, has its own four stages and no `stage_end`.

A place that ends in `.v2` is what the name before it says. Networks have it whose `block_end` once reached
a part of the blocks only, or whose stages were miscounted: an old run id must not get another placement.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Block:
    """A repeated unit of a backbone.

    Attributes:
        name: Its submodule's qualified name.
        stage: Its stage, from 1.
        number: Its number within the stage, from 1.
        places: Qualified name of the submodule behind each place.
        parts: Qualified names of the submodules that make it up, where it is not one submodule.
    """

    name: str
    stage: int
    number: int
    places: Mapping[str, str]
    parts: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Whether a submodule is the block, one of its parts, or inside of it."""
        return any(_inside(name, part) for part in self.parts or (self.name,))


@dataclass(frozen=True)
class Backbone:
    """An unmodified network, which takes (B, C, H, W) and returns (B, classes), and its blocks in order.

    Attributes:
        module: The network.
        blocks: All of its blocks, or none: a part of them would be placed at as if it were all.
        note: Reason why blocks or usual places are missing; empty if none is.
        revised: Whether stages and blocks were once counted otherwise: only a placement after places
            with revised names may choose by them.
    """

    module: nn.Module
    blocks: tuple[Block, ...] = ()
    note: str = ""
    revised: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the places that at least one block has."""
        return tuple(dict.fromkeys(place for block in self.blocks for place in block.places))

    def where(self, place: str) -> list[str]:
        """Return the submodules behind a place, in order."""
        return [block.places[place] for block in self.blocks if place in block.places]

    @property
    def stage_sizes(self) -> tuple[int, ...]:
        """The number of blocks in each stage."""
        return tuple(Counter(block.stage for block in self.blocks).values())

    def block_of(self, name: str) -> Block | None:
        """Return the block that a submodule belongs to."""
        return next((block for block in self.blocks if block.holds(name)), None)

    def stage_of(self, name: str) -> int | None:
        """Return the stage that a submodule belongs to, or that it consists of."""
        if block := self.block_of(name):
            return block.stage
        inside = {block.stage for block in self.blocks if _inside(block.name, name)}
        return inside.pop() if len(inside) == 1 else None


def _inside(name: str, container: str) -> bool:
    return name == container or name.startswith(container + ".")
