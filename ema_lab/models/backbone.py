"""Backbones: a network with its blocks, their stages, and the named places for attention.

A *place* is a name for the point after one submodule of a block:

- `block_end`: the end of a block's own computation. With an addition: before it, after the last norm of
  the residual branch. DenseNet: after a dense layer's new channels, before they are concatenated.
  ShuffleNet: after the block's concatenation and shuffle. VGG, where a block is one convolution: after
  its activation. ConvNeXt: before layer scale in torchvision's code, after it in timm's. If no
  submodule ends the branch (Inception, SqueezeNet, RepVGG, MobileOne, EdgeNeXt's SplitTransposeBlock):
  after the whole block.
- `after_conv1`, `after_conv2`, `after_conv3`: after a convolution, before its norm.
- `after_depthwise`: after the depthwise convolution with its norm and activation (ConvNeXt: before its
  norm, which works channels-last).
- `stage_end`: after the last block of each stage, additions and activations included. DenseNet: after
  the norm of the stage's concatenated output.

A stage is a run of blocks between two halvings of the resolution. Stages count from 1; the stem belongs to
no stage. HRNet, whose branches are parallel, has four stages of its own and no `stage_end`.

A suffix `.v2` marks a corrected place of the same meaning. Earlier releases missed some blocks of these
networks, or miscounted their stages. The old names keep their old meaning, so that no run id changes its
placement.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Block:
    """Repeated unit of a backbone.

    Attributes:
        name: Qualified name of the block's submodule.
        stage: Number of the block's stage, from 1.
        number: Number of the block within its stage, from 1.
        places: Qualified name of the submodule behind each place.
        parts: Qualified names of the block's submodules, if it is not a single submodule.
    """

    name: str
    stage: int
    number: int
    places: Mapping[str, str]
    parts: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Return whether a submodule is the block, one of its parts, or inside one."""
        return any(_inside(name, part) for part in self.parts or (self.name,))


@dataclass(frozen=True)
class Backbone:
    """Unmodified network, (B, C, H, W) -> (B, classes), and its blocks in order.

    Attributes:
        module: The network.
        blocks: All blocks of the network, or none, because a placement would take an incomplete list for
            complete.
        note: Reason why blocks or usual places are missing; empty if nothing is missing.
        revised: True if an earlier release counted stages and blocks differently. Only a placement after
            places with revised names may then choose stages or blocks.
    """

    module: nn.Module
    blocks: tuple[Block, ...] = ()
    note: str = ""
    revised: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the places that at least one block has."""
        return tuple(dict.fromkeys(place for block in self.blocks for place in block.places))

    def where(self, place: str) -> list[str]:
        """Return the qualified names of the submodules behind a place, in order."""
        return [block.places[place] for block in self.blocks if place in block.places]

    @property
    def stage_sizes(self) -> tuple[int, ...]:
        """Number of blocks in each stage."""
        return tuple(Counter(block.stage for block in self.blocks).values())

    def block_of(self, name: str) -> Block | None:
        """Return the block that a submodule belongs to, if any."""
        return next((block for block in self.blocks if block.holds(name)), None)

    def stage_of(self, name: str) -> int | None:
        """Return the stage that a submodule belongs to or contains; None if there is not exactly one."""
        if block := self.block_of(name):
            return block.stage
        inside = {block.stage for block in self.blocks if _inside(block.name, name)}
        return inside.pop() if len(inside) == 1 else None


def _inside(name: str, container: str) -> bool:
    return name == container or name.startswith(container + ".")
