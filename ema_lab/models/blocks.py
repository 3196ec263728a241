"""Detection of blocks, stages and places in torchvision's and timm's convolutional networks.

A submodule's class tells whether it is a block (see `block_kinds`).
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ema_lab.models.backbone import Backbone, Block
from ema_lab.models.block_kinds import (
    ADDED_BLOCKS,
    CONCATENATED,
    DOWNSAMPLED_FIRST,
    KINDS,
    NOT_BLOCKS,
    ONCE_ONE_STAGE,
    PARALLEL,
    PLAIN,
    REVISION,
    STEMS,
    STRIDED_INSIDE,
)
from ema_lab.wording import are, number_of


def describe(module: nn.Module) -> Backbone:
    """Return a network with its blocks and places, if all of its blocks are of a known kind.

    Otherwise the backbone has no blocks and `note` says why; placement by name patterns still works.
    """
    unnumbered = list(_blocks(module))
    if unknown := _unknown(module, unnumbered):
        return Backbone(module, note=_shortfall(unnumbered, unknown))
    if _class_name(module) in PARALLEL:
        return Backbone(module, _in_named_stages(unnumbered), note="parallel branches have no one stage_end")
    blocks = _numbered(unnumbered, _stage_starts(module, unnumbered))
    ends = {block.stage: block for block in blocks}.values()
    return _revised(module, [_with_stage_end(module, b) if b in ends else b for b in blocks])


def _revised(module: nn.Module, blocks: list[Block]) -> Backbone:
    """Return the backbone, with revised place names if an earlier release knew its blocks differently."""
    added = {block.name: name for block in blocks if (name := _class_at(module, block.name)) in ADDED_BLOCKS}
    was_one_stage = _class_name(module) in ONCE_ONE_STAGE and any(map(_blurs, module.modules()))
    if not added and not was_one_stage:
        return Backbone(module, tuple(blocks))
    classes = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in added.values()))
    fault = f"{len(blocks) - len(added)} of {number_of(len(blocks), 'block')}, not {classes}"
    fault = fault if added else "all blocks as one stage"
    note = f"its places once covered {fault}; the right ones are named block_end{REVISION} and so on"
    renamed = tuple(replace(block, places=_renamed(block, keep=not added)) for block in blocks)
    return Backbone(module, renamed, note=note, revised=True)


def _renamed(block: Block, *, keep: bool) -> dict[str, str]:
    """Return a block's places under revised names; `keep` adds the old names that were right."""
    kept = {place: name for place, name in block.places.items() if keep and place != "stage_end"}
    return kept | {place + REVISION: name for place, name in block.places.items()}


def _numbered(blocks: Iterable[Block], starts: Container[str]) -> list[Block]:
    """Return the blocks with their stages and their numbers within each."""
    numbered: list[Block] = []
    stage = number = 0
    for block in blocks:
        if block.name in starts or not numbered:
            stage, number = stage + 1, 0
        number += 1
        numbered.append(replace(block, stage=stage, number=number))
    return numbered


def _in_named_stages(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Number the blocks of `layer1`, `stage2`, `stage3` ...; drop the others, which belong to the head."""
    stages = [
        (match, block) for block in blocks if (match := re.match(r"(?:layer|stage)(\d+)\.", block.name))
    ]
    first = {int(match[1]): block.name for match, block in reversed(stages)}
    return tuple(_numbered([block for _, block in stages], set(first.values())))


def _unknown(module: nn.Module, blocks: list[Block]) -> dict[str, str]:
    """Return the name and the class of each block of unknown kind.

    A submodule with several weighted layers counts as a block if its name is like a known block's, or a
    neighbour has the same class. Without any known block, the result is empty.
    """
    endless = [block.name for block in blocks if "block_end" not in block.places]
    unknown = {name: _class_at(module, name).rpartition(".")[2] for name in endless}
    patterns = {_name_pattern(block.name) for block in blocks}
    containers = {container for block in blocks for container in _containers(block.name)}
    for name, part in module.named_modules():
        if not blocks or name in containers or _is_stem(name, part) or _num_layers(part) < 2:
            continue
        is_like_a_block = _name_pattern(name) in patterns or _has_twin(module, name)
        if is_like_a_block and not _inside_any(name, blocks, unknown):
            unknown[name] = type(part).__name__
    return unknown


def _shortfall(blocks: list[Block], unknown: Mapping[str, str]) -> str:
    known = [block.name for block in blocks if block.name not in unknown]
    classes = list(dict.fromkeys(unknown.values()))
    patterns = " or ".join(repr(pattern) for pattern in dict.fromkeys(map(_name_pattern, [*known, *unknown])))
    total = number_of(len(known) + len(unknown), "block")
    return (
        f"{len(known)} of {total} {are(len(known))} known; {', '.join(classes)} {are(len(classes))} not: "
        f"name the place by a pattern such as {patterns}"
    )


def _name_pattern(name: str) -> str:
    """Return a pattern that matches a name with any other numbers in it."""
    return re.sub(r"\d+", "*", name)


def _class_at(module: nn.Module, name: str) -> str:
    return _class_name(module.get_submodule(name))


def _containers(name: str) -> Iterator[str]:
    """Yield the names of the modules around a submodule, from the inside out; "" is the whole network."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _inside_any(name: str, blocks: Iterable[Block], unknown: Iterable[str]) -> bool:
    return any(block.holds(name) for block in blocks) or any(name.startswith(f"{n}.") for n in unknown)


def _is_stem(name: str, part: nn.Module) -> bool:
    return name.startswith(NOT_BLOCKS) or _class_name(part) in STEMS


def _num_layers(part: nn.Module) -> int:
    """Count the layers with weights; 0 for a bare sequence of layers, which is not a block."""
    if isinstance(part, nn.ModuleList) or type(part) is nn.Sequential:
        return 0
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in part.modules())


def _has_twin(module: nn.Module, name: str) -> bool:
    """Return whether a module is in a sequence with another module of its class."""
    parent = module.get_submodule(name.rpartition(".")[0])
    kind = type(module.get_submodule(name))
    sequence = isinstance(parent, nn.ModuleList | nn.Sequential)
    return sequence and sum(type(child) is kind for child in parent.children()) > 1


def _with_stage_end(module: nn.Module, block: Block) -> Block:
    """Return the last block of a stage with the place `stage_end` added."""
    end = block.name
    if _class_name(module.get_submodule(block.name)) in CONCATENATED:
        modules = list(module.named_modules())
        last = max(number for number, (name, _) in enumerate(modules) if block.holds(name))
        end = next(
            name
            for name, part in modules[last:]
            if isinstance(part, nn.BatchNorm2d) and not block.holds(name)
        )
    return replace(block, places={**block.places, "stage_end": end})


def _blocks(module: nn.Module) -> Iterator[Block]:
    """Yield the blocks in order of registration, before stages and numbers are set."""
    last = None
    for name, part in module.named_modules():
        if last is not None and name.startswith(last + "."):
            continue
        if name.startswith(NOT_BLOCKS):
            continue
        if places_of := KINDS.get(_class_name(part)):
            last = name
            places = {place: _joined(name, below) for place, below in places_of(part).items()}
            yield Block(name, 0, 0, places)
        elif _class_name(part) in PLAIN:
            yield from _plain_blocks(name, part)


def _plain_blocks(name: str, module: nn.Module) -> Iterator[Block]:
    """Yield one block per convolution of a network whose `features` are a plain sequence (VGG)."""
    parts: list[str] = []
    for child, layer in module.get_submodule("features").named_children():
        if isinstance(layer, nn.Conv2d):
            parts = []
        parts.append(_joined(_joined(name, "features"), child))
        if isinstance(layer, nn.ReLU):
            yield Block(parts[-1], 0, 0, {"block_end": parts[-1]}, parts=tuple(parts))


def _joined(name: str, below: str) -> str:
    return f"{name}.{below}".strip(".")


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _stage_starts(module: nn.Module, blocks: list[Block]) -> set[str]:
    """Return the names of the blocks at which a new stage starts.

    These blocks halve the resolution, or follow a layer between blocks that does.
    """
    starts: set[str] = set()
    waiting = list(blocks)
    halved = False
    inside: Block | None = None
    for name, part in module.named_modules():
        if waiting and waiting[0].holds(name):
            inside = waiting.pop(0)
            if halved:
                starts.add(inside.name)
                halved = False
        if _class_name(part) in DOWNSAMPLED_FIRST:
            halved = any(map(_halves, part.get_submodule("downsample").modules()))
        if _halves(part):
            if inside is not None and inside.holds(name):
                if _class_at(module, inside.name) not in STRIDED_INSIDE:
                    starts.add(inside.name)
            else:
                halved = True
    return starts


def _blurs(layer: nn.Module) -> bool:
    return type(layer).__name__ == "BlurPool2d"


def _halves(layer: nn.Module) -> bool:
    of_timm = type(layer).__name__ == "CondConv2d" or _blurs(layer)
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and not of_timm:
        return False
    stride: Any = layer.stride
    return bool(max(stride) > 1 if isinstance(stride, tuple) else (stride or 1) > 1)
