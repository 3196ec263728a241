"""Faster passes on the meta device, where only shapes are of interest."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class ShapesOnly(TorchFunctionMode):
    """Function mode that skips work without an effect on shapes, for tensors on the meta device.

    PyTorch emulates each operator of the meta device in Python. Batch norm and ReLU6 take most of a network's
    pass there, and normal draws most of its construction, although none of them changes a shape. Whatever
    does not fit, such as a norm of another width, is left to PyTorch, which raises its own error.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        keeps_shape = _KEEPS_SHAPE.get(func)
        if keeps_shape is not None and not torch.is_grad_enabled():
            output = keeps_shape(*args, **kwargs)
            if output is not None:
                return output
        return func(*args, **kwargs)


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """Return an output (B, C, ...) of the input's shape; None where PyTorch has to decide."""
    if not x.is_meta or not x.is_floating_point() or x.dim() < 2 or x.numel() < 2 * x.shape[1]:
        return None
    if not training and (mean is None or variance is None):
        return None
    fits = all(
        tensor is None or (tensor.is_meta and tensor.shape == x.shape[1:2])
        for tensor in (mean, variance, weight, bias)
    )
    return torch.empty_like(x) if fits else None


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor | None:
    if not x.is_meta or not x.is_floating_point():
        return None
    return x if inplace else torch.empty_like(x)


def _relu6(input: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: A002  PyTorch's own name
    return _hardtanh(input, inplace=inplace)


def _normal(x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: object = None) -> Tensor | None:
    return x if x.is_meta and std >= 0 else None


_KEEPS_SHAPE: dict[Any, Callable[..., Tensor | None]] = {
    F.batch_norm: _batch_norm,
    F.hardtanh: _hardtanh,
    F.relu6: _relu6,
    Tensor.normal_: _normal,
}
