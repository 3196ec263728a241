"""What a model looks at: attention gates by a hook, and Grad-CAM (arXiv:1610.02391).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError
from ema_lab.models.build import build_backbone
from ema_lab.models.insertion import CHILD
from ema_lab.registry import unknown_name
from ema_lab.specs.run import RunSpec

SMALLEST = 1e-6  # of an input's largest magnitude: below it a ratio is noise


def gate_ratio(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Return output / input by element: the gate of a module that multiplies. NaN where input is near 0."""
    size = x_BCHW.abs()
    return (y_BCHW / x_BCHW).masked_fill(size <= SMALLEST * size.max(), torch.nan)


def gate_map(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Return sum |output| / sum |input| over the channels (B, H, W): defined for modules that add, too.

    For a multiplying module it is its gate's mean over the channels, weighted by the input's magnitude.
    NaN where every channel of the input is zero.
    """
    below = x_BCHW.abs().sum(1)
    return (y_BCHW.abs().sum(1) / below).masked_fill(below == 0, torch.nan)


def attention_names(model: nn.Module) -> list[str]:
    """Return the names of the inserted attention modules, in the order of the model."""
    return [name for name, _ in model.named_modules() if CHILD.fullmatch(name.rpartition(".")[2])]


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield a list that grows by the input and output, copied, of each call of a module."""
    calls: list[tuple[Tensor, Tensor]] = []
    inputs: list[Tensor] = []
    handles = [  # copied before the call: a module may change its input in place
        module.register_forward_pre_hook(lambda _m, args: inputs.append(args[0].detach().clone())),
        module.register_forward_hook(lambda _m, _a, y: calls.append((inputs.pop(), y.detach().clone()))),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def chosen_attention(model: nn.Module, which: str) -> str | None:
    """Return the name of one attention module by `last`, a number from 1 or the name; None without it."""
    names = attention_names(model)
    if which == "last":
        return names[-1] if names else None
    if which.isascii() and which.isdecimal():
        return names[int(which) - 1] if 1 <= int(which) <= len(names) else None
    return which if which in names else None


def gate_of(model: nn.Module, images_BCHW: Tensor, name: str) -> np.ndarray:
    """Return the gate map (B, H, W) of the attention module of that name."""
    with torch.no_grad(), recorded(model.get_submodule(name)) as calls:
        model(images_BCHW)
    found: np.ndarray = gate_map(*calls[-1]).cpu().numpy()
    return found


def last_stage(spec: RunSpec) -> str | None:
    """Return the name of the layer whose output is that of the backbone's last stage; None without stages."""
    ends = build_backbone(spec, device="meta").where("stage_end")
    return ends[-1] if ends else None


def grad_cam(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, target_layer: str) -> np.ndarray:
    """Return Grad-CAM of each image's own class at a layer, (B, H, W) of the image's size, from 0 to 1.

    Raises:
        SpecError: If the model has no such layer.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layers = dict(model.named_modules())
    if not target_layer or target_layer not in layers:
        stages = [name for name, _ in model.named_children()]
        raise SpecError(f"--target-layer: {unknown_name('layer', target_layer, stages)}")
    targets = [ClassifierOutputTarget(int(label)) for label in labels_B]
    with GradCAM(model=model, target_layers=[layers[target_layer]]) as cam:
        found: np.ndarray = cam(input_tensor=images_BCHW, targets=targets)
    return found
