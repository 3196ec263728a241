"""Faster passes on the meta device, where only shapes are of interest."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class ShapesOnly(TorchFunctionMode):
    """Function mode that skips work without an effect on shapes, for tensors on the meta device.

    PyTorch emulates most operators of the meta device in Python, and imports its compiler and SymPy for it,
    which takes longer than the passes of small models. The operators below are common in networks, and their
    shapes are simple. Initial values take most of a network's construction. Whatever does not fit, such as
    a norm of another width, is left to PyTorch, which raises its own error.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shape_of = _SHAPES.get(func)
        if shape_of is not None and (not torch.is_grad_enabled() or func in _OUTSIDE_OF_AUTOGRAD):
            try:
                output = shape_of(*args, **kwargs)
            except TypeError:  # arguments that the function below does not take
                output = None
            if output is not None:
                return output
        return func(*args, **kwargs)


def _fits(*tensors: Any) -> bool:
    """Return whether arguments are floating tensors of one kind on the meta device."""
    return all(
        isinstance(tensor, Tensor) and tensor.is_meta and tensor.is_floating_point() for tensor in tensors
    ) and (len({tensor.dtype for tensor in tensors}) == 1)


def _are_contiguous(*tensors: Tensor) -> bool:
    """Return whether tensors also are contiguous; the output then is contiguous, too."""
    return _fits(*tensors) and all(tensor.is_contiguous() for tensor in tensors)


def _like(x: Tensor) -> Tensor:
    return _new(x, x.shape) if x.is_contiguous() else torch.empty_like(x)


def _pointwise(*tensors: Tensor) -> Tensor | None:
    """Allocate the output of a pointwise operator. None if the inputs do not broadcast.

    Its order in memory is that of PyTorch's TensorIterator: dimensions are sorted by the strides of the
    inputs, an earlier input before a later one.
    """
    shape: list[int] | None = []
    for tensor in tensors:
        shape = None if shape is None else _broadcast(shape, tensor.shape)
    if shape is None:
        return None
    first = tensors[0]
    if all(tensor.is_contiguous() for tensor in tensors):
        return _new(first, shape)
    strides = [_strides(tensor, shape) for tensor in tensors]
    order = list(reversed(range(len(shape))))  # from the fastest dimension to the slowest
    for i in range(1, len(order)):
        inner = i
        for outer in reversed(range(i)):
            comparison = _compared(order[outer], order[inner], shape, strides)
            if comparison > 0:
                order[outer], order[inner], inner = order[inner], order[outer], outer
            elif comparison < 0:
                break
    chosen, step = [0] * len(shape), 1
    for dim in order:
        chosen[dim], step = step, step * shape[dim]
    return torch.empty_strided(shape, chosen, dtype=first.dtype, device=first.device)


def _strides(tensor: Tensor, shape: Sequence[int]) -> list[int]:
    """Return the strides of a tensor in a broadcast shape: 0 where it is repeated."""
    missing = len(shape) - tensor.dim()
    own = zip(tensor.stride(), tensor.shape, shape[missing:], strict=True)
    return [0] * missing + [0 if side == 1 and whole != 1 else stride for stride, side, whole in own]


def _compared(faster: int, slower: int, shape: Sequence[int], strides: Sequence[Sequence[int]]) -> int:
    """Compare two dimensions by their strides: 1 if they must be swapped, -1 if not, 0 if unknown."""
    for own in strides:
        if own[faster] == 0 or own[slower] == 0:
            continue
        if own[faster] != own[slower]:
            return 1 if own[faster] > own[slower] else -1
        if shape[faster] > shape[slower]:
            return 1
    return 0


def _new(x: Tensor, shape: Iterable[int]) -> Tensor:
    return torch.empty(tuple(shape), dtype=x.dtype, device=x.device)


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
    return _like(x) if _per_channel(x, mean, variance, weight, bias) else None


def _per_channel(x: Tensor, *parameters: Tensor | None) -> bool:
    """Return whether parameters have a value for each channel of `x`, or are None."""
    return all(tensor is None or (tensor.is_meta and tensor.shape == x.shape[1:2]) for tensor in parameters)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    if not _are_contiguous(x) or x.dim() < 2 or x.shape[1] % groups or not _per_channel(x, weight, bias):
        return None
    if any(tensor is not None and tensor.dtype != x.dtype for tensor in (weight, bias)):
        return None
    return _like(x) if x.numel() > groups else None


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor | None:
    if not x.is_meta or not x.is_floating_point():
        return None
    return x if inplace else _pointwise(x)


def _activation(input: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: A002  PyTorch's own name
    return _hardtanh(input, inplace=inplace)


def _function(x: Tensor, /) -> Tensor | None:
    return _pointwise(x) if _fits(x) else None


def _normal(x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: object = None) -> Tensor | None:
    return x if _fits(x) and std >= 0 else None


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: object = None) -> Tensor | None:
    return x if _fits(x) and low <= high else None


def _initially_uniform(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: object = None
) -> Tensor | None:
    return _uniform(tensor, a, b)


def _initially_constant(tensor: Tensor, val: float) -> Tensor | None:
    return tensor if _fits(tensor) else None


def _kaiming_uniform(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: object = None,
) -> Tensor | None:
    usual = mode in ("fan_in", "fan_out") and nonlinearity in ("leaky_relu", "relu", "linear")
    fits = _fits(tensor) and tensor.dim() > 1 and 0 not in tensor.shape
    return tensor if fits and usual and type(a) in (int, float) else None


def _fill(x: Tensor, value: Any = 0, /) -> Tensor | None:
    """Return the tensor itself, unless autograd would have to record the operation."""
    plain = type(value) in (int, float) and not (torch.is_grad_enabled() and x.requires_grad)
    return x if x.is_meta and plain else None


def _function_in_place(x: Tensor, /) -> Tensor | None:
    return x if _fits(x) else None


def _clamp_in_place(x: Tensor, min: Any = None, max: Any = None) -> Tensor | None:  # noqa: A002  PyTorch's
    return x if _fits(x) and {type(min), type(max)} <= {int, float} else None


def _arithmetic(x: Any, y: Any, /) -> Tensor | None:
    """Return an output for two tensors, or for a tensor and a number."""
    if type(y) in (int, float):
        return _pointwise(x) if _fits(x) else None
    return _pointwise(x, y) if _fits(x, y) else None


def _arithmetic_in_place(x: Any, y: Any, /) -> Tensor | None:
    return (
        x
        if _fits(x)
        and (type(y) in (int, float) or (_fits(x, y) and _broadcast(x.shape, y.shape) == [*x.shape]))
        else None
    )


def _broadcast(first: Sequence[int], second: Sequence[int]) -> list[int] | None:
    """Broadcast two shapes to one. None if they do not broadcast."""
    length = max(len(first), len(second))
    padded = ([1] * (length - len(shape)) + list(shape) for shape in (first, second))
    sides = list(zip(*padded, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in sides):
        return None
    return [b if a == 1 else a for a, b in sides]


def _reduction(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor | None:
    """Return an output for a mean or a sum over some dimensions."""
    dims = [dim] if type(dim) is int else list(dim)
    if (
        not _are_contiguous(x)
        or not dims
        or not all(type(d) is int and -x.dim() <= d < x.dim() for d in dims)
    ):
        return None
    reduced = {d % x.dim() for d in dims}
    if len(reduced) < len(dims) or 0 in x.shape:
        return None
    return _new(x, (1 if d in reduced else n for d, n in enumerate(x.shape) if keepdim or d not in reduced))


def _softmax(input: Tensor, dim: int) -> Tensor | None:  # noqa: A002  PyTorch's own name
    if not _are_contiguous(input) or type(dim) is not int or not -input.dim() <= dim < input.dim():
        return None
    return _new(input, input.shape)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first, others = tensors[0], tensors[1:]
    if not _are_contiguous(*tensors) or not -first.dim() <= dim < first.dim():
        return None
    dim %= first.dim()
    rest = [[n for d, n in enumerate(each.shape) if d != dim] for each in tensors]
    if any(each.dim() != first.dim() for each in others) or any(shape != rest[0] for shape in rest):
        return None
    total = sum(each.shape[dim] for each in tensors)
    return _new(first, (total if d == dim else n for d, n in enumerate(first.shape)))


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    same = all(each.shape == first.shape for each in tensors)
    if not _are_contiguous(*tensors) or not same or not -first.dim() - 1 <= dim <= first.dim():
        return None
    dim %= first.dim() + 1
    return _new(first, (*first.shape[:dim], len(tensors), *first.shape[dim:]))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:  # noqa: A002
    parameters = (weight,) if bias is None else (weight, bias)
    if not _are_contiguous(input, *parameters) or input.dim() < 2 or weight.dim() != 2:
        return None
    if input.shape[-1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    return _new(input, (*input.shape[:-1], weight.shape[0]))


def _matmul(x: Any, y: Any, /) -> Tensor | None:
    if not _fits(x, y) or min(x.dim(), y.dim()) < 2 or x.shape[-1] != y.shape[-2]:
        return None
    if x.dim() != y.dim() and not _are_contiguous(x, y):
        return None  # one may be folded, which changes the order in memory
    batch = _broadcast(x.shape[:-2], y.shape[:-2])
    return None if batch is None else _new(x, (*batch, x.shape[-2], y.shape[-1]))


def _conv2d(
    input: Tensor,  # noqa: A002  PyTorch's own name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    parameters = (weight,) if bias is None else (weight, bias)
    settings = [_pair(value) for value in (stride, padding, dilation)]
    if (
        not _fits(input)
        or not _are_contiguous(*parameters)
        or input.dtype != weight.dtype
        or None in settings
    ):
        return None
    if (input.dim(), weight.dim()) != (4, 4) or (
        not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)
    ):
        return None
    strides, margins, steps = settings
    assert strides
    assert margins
    assert steps
    if min(groups, *strides, *steps) < 1 or min(margins) < 0 or weight.shape[0] % groups:
        return None
    if input.shape[1] != weight.shape[1] * groups or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    extents = zip(input.shape[2:], weight.shape[2:], strides, margins, steps, strict=True)
    sides = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in extents]
    if min(*sides, *weight.shape, *input.shape) < 1:
        return None
    return _new(input, (input.shape[0], weight.shape[0], *sides))


def _pair(value: Any) -> tuple[int, int] | None:
    """Return a setting of a convolution for both sides; None if it is not one or two numbers."""
    values = (value, value) if type(value) is int else value
    if isinstance(values, (tuple, list)) and len(values) == 2 and all(type(n) is int for n in values):
        return values[0], values[1]
    return None


def _adaptive_pool(input: Tensor, output_size: Any) -> Tensor | None:  # noqa: A002  PyTorch's own name
    sides = (output_size, output_size) if type(output_size) is int else tuple(output_size)
    if not _are_contiguous(input) or input.dim() != 4 or len(sides) != 2 or math.prod(input.shape[1:]) < 1:
        return None
    chosen = [n if side is None else side for side, n in zip(sides, input.shape[2:], strict=True)]
    if not all(type(side) is int and side > 0 for side in chosen):
        return None
    return _new(input, (*input.shape[:2], *chosen))


_SHAPES: dict[Any, Callable[..., Tensor | None]] = {
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.hardtanh: _hardtanh,
    F.linear: _linear,
    F.conv2d: _conv2d,
    F.adaptive_avg_pool2d: _adaptive_pool,
    Tensor.normal_: _normal,
    Tensor.uniform_: _uniform,
    Tensor.erfinv_: _function_in_place,
    Tensor.clamp_: _clamp_in_place,
    Tensor.fill_: _fill,
    Tensor.zero_: _fill,
    nn.init.uniform_: _initially_uniform,
    nn.init.constant_: _initially_constant,
    nn.init.kaiming_uniform_: _kaiming_uniform,
    Tensor.softmax: _softmax,
    torch.softmax: _softmax,
    F.softmax: _softmax,
    torch.cat: _cat,
    torch.stack: _stack,
    **dict.fromkeys((F.relu, F.relu6, F.silu, F.hardswish, F.hardsigmoid, F.mish), _activation),
    **dict.fromkeys((torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.abs, torch.sqrt), _function),
    **dict.fromkeys(
        (Tensor.relu, Tensor.sigmoid, Tensor.tanh, Tensor.exp, Tensor.abs, Tensor.sqrt), _function
    ),
    **dict.fromkeys((F.sigmoid, F.tanh, F.gelu), _function),
    **dict.fromkeys((torch.add, torch.sub, torch.mul, torch.div), _arithmetic),
    **dict.fromkeys((Tensor.add, Tensor.sub, Tensor.mul, Tensor.div), _arithmetic),
    **dict.fromkeys((Tensor.__rsub__, Tensor.__rdiv__), _arithmetic),
    **dict.fromkeys((Tensor.add_, Tensor.sub_, Tensor.mul_, Tensor.div_), _arithmetic_in_place),
    **dict.fromkeys((torch.mean, torch.sum, Tensor.mean, Tensor.sum), _reduction),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul),
}
_OUTSIDE_OF_AUTOGRAD = {
    *(nn.init.uniform_, nn.init.constant_, nn.init.kaiming_uniform_),  # which switch it off themselves
    *(Tensor.fill_, Tensor.zero_),  # which look for it
}
