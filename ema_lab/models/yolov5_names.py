"""Names of YOLOv5 v6.0's state dict for this package's networks.

v6.0 numbers its layers from the image to the heads, and counts upsampling and concatenation too. In the files
of attention variants an attention module is a layer of its own, and shifts the numbers of all that follow.
"""

import re
from collections.abc import Container, Iterator, Mapping

from torch import nn

from ema_lab.models.insertion import CHILD
from ema_lab.models.yolov5_layers import C3, Focus, Layout, PyramidPooling

_PARTS: Mapping[type[nn.Module], tuple[tuple[str, str], ...]] = {  # our names inside a layer, and theirs
    Focus: ((r"mix\.", "conv."),),
    C3: (
        (r"enter\.", "cv1."),
        (r"bypass\.", "cv2."),
        (r"join\.", "cv3."),
        (r"bottlenecks\.(\d+)\.reduce\.", r"m.\1.cv1."),
        (r"bottlenecks\.(\d+)\.expand\.", r"m.\1.cv2."),
    ),
    PyramidPooling: ((r"reduce\.", "cv1."), (r"join\.", "cv2.")),
}


def published_names(
    model: nn.Module, layout: Layout, behind: Container[str], *, shifted: bool
) -> dict[str, str]:
    """Return the name in v6.0's state dict of each of a network's own tensors but the anchors.

    Args:
        model: The network. Inserted modules have no name in v6.0's state dict.
        layout: The network's table.
        behind: Names of the blocks behind which attention is inserted out of sight of the heads.
        shifted: Whether attention counts as a layer, as in the files of attention variants.
    """
    names: dict[str, str] = {}
    state = model.state_dict()
    for number, layer in _numbered(model, layout, behind, shifted):
        module = model.get_submodule(layer)
        for name in state:
            if not name.startswith(f"{layer}.") or _is_inserted(name):
                continue
            inner = name.removeprefix(f"{layer}.")
            inner = f"m.{inner}" if layer == "heads" else _translated(module, inner)
            names[name] = f"model.{number}.{inner}"
    return names


def _is_inserted(name: str) -> bool:
    return any(CHILD.fullmatch(part) for part in name.split("."))


def _translated(layer: nn.Module, inner: str) -> str:
    for ours, theirs in _PARTS.get(_kind(layer), ()):
        if re.match(ours, inner):
            inner = re.sub(f"^{ours}", theirs, inner)
            break
    return re.sub(r"(^|\.)norm\.", r"\1bn.", inner)


def _kind(layer: nn.Module) -> type[nn.Module]:
    return next((kind for kind in _PARTS if isinstance(layer, kind)), type(layer))


def _numbered(
    model: nn.Module, layout: Layout, behind: Container[str], shifted: bool
) -> Iterator[tuple[int, str]]:
    """Yield the number and the name of each layer with weights."""
    number = 0
    for layer in _layers(layout, behind):
        if layer is None:
            number += 1
            continue
        if not layer.startswith("behind."):
            yield number, layer
            number += 1
        if shifted:
            children = model.get_submodule(layer).named_children()
            number += sum(CHILD.fullmatch(name) is not None for name, _ in children)


def _layers(layout: Layout, behind: Container[str]) -> Iterator[str | None]:
    """Yield the layers in v6.0's order; None stands for one without weights."""
    lowest, focus = layout.lowest, layout.focus
    yield "stem"
    for level in range(2, 6):
        yield f"down{level}"
        if level == 5 and focus:
            yield "pool"
        yield f"stage{level}"
    if not focus:
        yield "pool"
    for level in range(4, lowest - 1, -1):
        yield from (f"lateral.{level}", None, None, f"top_down.{level}")
        if f"top_down_{level}" in behind:
            yield f"behind.top_down_{level}"
    for level in range(lowest + 1, 6):
        yield from (f"shrink.{level}", None, f"bottom_up.{level}")
        if f"bottom_up_{level}" in behind:
            yield f"behind.bottom_up_{level}"
    yield "heads"
