"""Activation maps of a model: attention gates from a hook, and Grad-CAM (arXiv:1610.02391).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError
from ema_lab.models.insertion import CHILD
from ema_lab.registry.registry import unknown_name

SMALLEST = 1e-6  # share of the largest input magnitude; below this share a ratio is noise


def gate_ratio(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Return output / input per element, the gate of a multiplying module; NaN near an input of 0."""
    size = x_BCHW.abs()
    return (y_BCHW / x_BCHW).masked_fill(size <= SMALLEST * size.max(), torch.nan)


def gate_map(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Return sum |output| / sum |input| over the channels, (B, H, W).

    The ratio is also defined for modules that add. For a multiplying module the ratio is the gate's mean over
    the channels, weighted by the input's magnitude. NaN where all channels of the input are zero.
    """
    below = x_BCHW.abs().sum(1)
    return (y_BCHW.abs().sum(1) / below).masked_fill(below == 0, torch.nan)


def attention_names(model: nn.Module) -> list[str]:
    """Return the names of the inserted attention modules, in model order."""
    return [name for name, _ in model.named_modules() if CHILD.fullmatch(name.rpartition(".")[2])]


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Record calls of a module: the yielded list gets a copy of input and output per call."""
    calls: list[tuple[Tensor, Tensor]] = []
    inputs: list[Tensor] = []
    handles = [  # the input is copied before the call, because a module may change it in place
        module.register_forward_pre_hook(lambda _m, args: inputs.append(args[0].detach().clone())),
        module.register_forward_hook(lambda _m, _a, y: calls.append((inputs.pop(), y.detach().clone()))),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def gate_of(model: nn.Module, images_BCHW: Tensor, name: str | None = None) -> np.ndarray | None:
    """Return the gate map (B, H, W) of a module that keeps its input's shape.

    Args:
        model: The model, in evaluation mode.
        images_BCHW: Normalised images, as the model takes them.
        name: Qualified name of the module; by default the last attention module.

    Returns:
        None if the model has no such module.

    Raises:
        SpecError: If the module's output has another shape than its input.
    """
    names = [name] if name is not None else attention_names(model)[-1:]
    if not names or names[0] not in dict(model.named_modules()):
        return None
    with torch.no_grad(), recorded(model.get_submodule(names[0])) as calls:
        model(images_BCHW)
    x, y = calls[-1]
    if x.shape != y.shape or x.ndim != 4:
        shapes = f"{tuple(x.shape[1:])} to {tuple(y.shape[1:])}"
        raise SpecError(f"--module: a gate keeps (C, H, W), and {names[0]} goes from {shapes}")
    gate_BHW: np.ndarray = gate_map(x, y).cpu().numpy()
    return gate_BHW


def grad_cam(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, target_layer: str) -> np.ndarray:
    """Return the Grad-CAM map of each image's label at a layer, scaled to [0, 1].

    Args:
        model: The model.
        images_BCHW: Normalised images, as the model takes them.
        labels_B: Class whose score is explained, per image.
        target_layer: Qualified name of the layer.

    Returns:
        Maps (B, H, W) of the image's size.

    Raises:
        SpecError: If the model has no such layer.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(label)) for label in labels_B]
    with GradCAM(model=model, target_layers=[_layer(model, target_layer)]) as cam:
        maps_BHW: np.ndarray = cam(input_tensor=images_BCHW, targets=targets)
    return maps_BHW


def detector_cam(
    model: nn.Module, images_BCHW: Tensor, score: float, target_layer: str, suppression: object = None
) -> np.ndarray:
    """Return the Grad-CAM map of each image's detections at a layer, scaled to [0, 1].

    Explained is the sum of all scores of at least `score`; of an image without any such score, its greatest.
    Scores of raw heads are objectness times class, before suppression. An image without any detection has a
    map of zeros.

    Args:
        model: A detector with raw heads (B, A, H, W, 5 + classes), or one with the method `detections`.
        images_BCHW: Normalised images, as the model takes them.
        score: Least score that counts.
        target_layer: Qualified name of the layer.
        suppression: Settings of suppression, for `detections`.

    Returns:
        Maps (B, H, W) of the image's size.

    Raises:
        SpecError: If the model has no such layer.
    """
    from pytorch_grad_cam import GradCAM

    def explained(scores_N: Tensor) -> Tensor:
        counted = scores_N[scores_N >= score]
        return counted.sum() if len(counted) else scores_N.max()

    layer, scores = _layer(model, target_layer), _Scores(model, suppression)
    with torch.no_grad():
        shown = [index for index, found in enumerate(scores(images_BCHW)) if len(found)]
    maps_BHW = np.zeros((len(images_BCHW), *images_BCHW.shape[2:]), dtype=np.float32)
    if shown:
        with GradCAM(model=scores, target_layers=[layer]) as cam:
            maps_BHW[shown] = cam(input_tensor=images_BCHW[shown], targets=[explained] * len(shown))
    return maps_BHW


class _Scores(nn.Module):
    """Scores of each image's predictions: objectness times class of raw heads, or those of detections."""

    def __init__(self, model: nn.Module, suppression: object) -> None:
        super().__init__()
        self.model, self.suppression = model, suppression

    def forward(self, images_BCHW: Tensor) -> Sequence[Tensor]:
        detections: Callable[[Tensor, object], list[Tensor]] | None
        detections = getattr(self.model, "detections", None)
        if detections is not None:
            return [rows[:, 4] for rows in detections(images_BCHW, self.suppression)]
        gates = [head[..., 4:].sigmoid() for head in self.model(images_BCHW)]
        return list(torch.cat([(gate[..., 1:] * gate[..., :1]).flatten(1) for gate in gates], 1))


def _layer(model: nn.Module, name: str) -> nn.Module:
    layers = dict(model.named_modules())
    if not name or name not in layers:
        stages = [child for child, _ in model.named_children()]
        raise SpecError(f"--target-layer: {unknown_name('layer', name, stages)}")
    found: nn.Module = layers[name]
    return found
