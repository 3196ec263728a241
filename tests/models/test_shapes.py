"""Passes on the meta device: the shortcut gives the shapes and the errors of PyTorch's own emulation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.shapes import ShapesOnly

SHAPES = [(2, 4, 3, 3), (2, 4), (1, 4), (1, 4, 1, 1), (2, 4, 3, 3, 2), (2, 3, 3, 3), (4,)]
ACTIVATIONS = [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-2, 2), nn.Hardtanh(inplace=True)]


def outcome(call, *arguments):
    """Return what a call gives or raises, as far as passes on the meta device can tell."""
    try:
        with torch.no_grad():
            output: Tensor = call(*arguments)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        return type(error), str(error)
    return output.shape, output.dtype, output.stride(), output.device.type


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
def test_batch_norm_gives_the_shape_and_the_error_of_pytorch(shape, training, dtype):
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(4, device="meta").train(training)
    x = torch.empty(shape, device="meta", dtype=dtype)
    statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias, training)
    expected = outcome(F.batch_norm, x, *statistics)
    with ShapesOnly():
        assert outcome(F.batch_norm, x, *statistics) == expected


@pytest.mark.parametrize(
    "act", [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-2, 2), nn.Hardtanh(inplace=True)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bounded_activations_give_the_shape_of_pytorch(act, layout):
    x = torch.empty(2, 4, 3, 5, device="meta").to(memory_format=layout)
    expected = outcome(act, x)
    with ShapesOnly():
        assert outcome(act, x) == expected


def test_normal_draws_leave_the_tensor_and_refuse_a_negative_deviation():
    x = torch.empty(3, device="meta")
    with ShapesOnly():
        assert nn.init.normal_(x) is x
        with pytest.raises(RuntimeError, match="std"):
            x.normal_(0, -1)


FILLS = {
    "uniform": nn.init.uniform_,
    "uniform the wrong way": lambda x: nn.init.uniform_(x, 1, 0),
    "constant": lambda x: nn.init.constant_(x, 2),
    "ones": nn.init.ones_,
    "kaiming": nn.init.kaiming_uniform_,
    "kaiming of a slope": lambda x: nn.init.kaiming_uniform_(x, 5**0.5, "fan_out", "relu"),
    "kaiming of no such mode": lambda x: nn.init.kaiming_uniform_(x, mode="fan_across"),
    "kaiming of no such gain": lambda x: nn.init.kaiming_uniform_(x, nonlinearity="rectified"),
    "kaiming normal": nn.init.kaiming_normal_,
    "truncated normal": nn.init.trunc_normal_,
    "zero": lambda x: x.zero_(),
    "fill": lambda x: x.fill_(3),
    "fill with a word": lambda x: x.fill_("three"),
    "draw": lambda x: x.uniform_(-2, to=2),
    "draw the wrong way": lambda x: x.uniform_(2, -2),
    "inverse": lambda x: x.erfinv_(),
    "clamp": lambda x: x.clamp_(min=-1, max=1),
    "clamp below": lambda x: x.clamp_(min=-1),
    "clamp by nothing": lambda x: x.clamp_(),
}
LEARNED = {  # whether autograd takes note of what happens to the tensor
    "a buffer": lambda shape, dtype: torch.empty(shape, device="meta", dtype=dtype),
    "a weight": lambda shape, dtype: nn.Parameter(torch.empty(shape, device="meta", dtype=dtype)),
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
def test_initial_values_leave_the_tensor_or_are_refused_as_by_pytorch(fill):
    for shape in [(4, 3, 3, 3), (4, 3), (4,), (), (0, 3)]:
        for dtype in (torch.float32, torch.float16, torch.int64):
            for kind, make in LEARNED.items():
                if kind == "a weight" and dtype == torch.int64:
                    continue
                expected = filled(FILLS[fill], make(shape, dtype))
                with ShapesOnly():
                    assert filled(FILLS[fill], make(shape, dtype)) == expected, (shape, dtype, kind)


def filled(fill, x):
    """Return whether a function gives back the tensor that it was given, or what it raises."""
    try:
        return fill(x) is x
    except (RuntimeError, ValueError, TypeError, ZeroDivisionError, NotImplementedError) as error:
        return type(error), str(error)


def test_initial_values_are_drawn_where_there_are_values():
    with ShapesOnly():
        weight = nn.init.kaiming_uniform_(torch.zeros(4, 3))
        assert weight.std() > 0
        assert (nn.init.constant_(weight, 2) == 2).all()
        assert (weight.uniform_(3, 4).clamp_(3.5, 3.5) == 3.5).all()
        assert not weight.zero_().any()


def test_values_are_computed_where_there_are_values():
    norm, x = nn.BatchNorm2d(3).eval(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        expected = F.relu6(norm(x))
        with ShapesOnly():
            assert torch.equal(F.relu6(norm(x)), expected)


def test_gradients_on_the_meta_device_are_pytorchs():
    norm, x = nn.BatchNorm2d(3, device="meta"), torch.empty(2, 3, 4, 4, device="meta")
    with ShapesOnly():
        assert norm(x).requires_grad


SIDES, DIMS = st.integers(0, 3), st.integers(0, 4)
DTYPES = st.sampled_from([torch.float32, torch.float32, torch.float16, torch.int64])
OF_ONE = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": lambda x: F.mish(x, inplace=False),
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": Tensor.sigmoid,
    "exp": torch.exp,
    "sqrt": lambda x: x.abs().sqrt(),
    "times a number": lambda x: x * 2.5,
    "times a truth": lambda x: x * True,
    "number minus": lambda x: 1 - x,
    "number over": lambda x: 2 / x,
    "add in place": lambda x: x.add_(1),
    "mean": lambda x: x.mean(-1),
    "mean of two": lambda x: x.mean((0, 2), keepdim=True),
    "mean of one twice": lambda x: x.mean((0, 0)),
    "mean of all": lambda x: x.mean(),
    "mean of nothing": lambda x: x.mean(()),
    "sum": lambda x: x.sum(dim=1),
    "sum as double": lambda x: x.sum(1, dtype=torch.float64),
    "softmax": lambda x: x.softmax(dim=1),
    "softmax of the last": lambda x: F.softmax(x, -1),
    "pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "pool of one side": lambda x: F.adaptive_avg_pool2d(x, (None, 2)),
    "pool to nothing": lambda x: F.adaptive_avg_pool2d(x, 0),
    "group norm": lambda x: F.group_norm(x, 2),
    "group norm with weights": lambda x: F.group_norm(x, 1, torch.empty(2, device="meta")),
}
OF_TWO = {
    "add": lambda x, y: x + y,
    "add times": lambda x, y: torch.add(x, y, alpha=2),
    "sub": torch.sub,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "mul in place": lambda x, y: x.mul_(y),
    "cat": lambda x, y: torch.cat([x, y]),
    "cat of columns": lambda x, y: torch.cat((x, y), dim=-1),
    "stack": lambda x, y: torch.stack([x, y], 1),
    "matmul": lambda x, y: x @ y,
    "linear": F.linear,
    "linear with bias": lambda x, y: F.linear(x, y, torch.empty(3, device="meta")),
}


@st.composite
def meta_tensors(draw, dims=DIMS, dtypes=DTYPES):
    """Draw a tensor on the meta device whose dimensions lie in memory in any order."""
    shape = draw(st.lists(SIDES, min_size=(length := draw(dims)), max_size=length))
    order = draw(st.permutations(range(length)))
    x = torch.empty([shape[dim] for dim in order], device="meta", dtype=draw(dtypes))
    x = x.permute([order.index(dim) for dim in range(length)])
    return x[..., ::2] if length and draw(st.integers(0, 4)) == 0 else x


def layout(output):
    """Return an outcome without the strides of single rows, which have no meaning."""
    if len(output) == 2:
        return output
    shape, dtype, strides, device = output
    return (
        shape,
        dtype,
        [s for s, side in zip(strides, shape, strict=True) if side > 1 and 0 not in shape],
        device,
    )


def agrees(call, *tensors):
    expected = layout(outcome(call, *tensors))
    with ShapesOnly():
        assert layout(outcome(call, *tensors)) == expected


@given(name=st.sampled_from(sorted(OF_ONE)), x=meta_tensors())
@settings(max_examples=150)
def test_an_operator_of_one_tensor_gives_the_shape_and_the_error_of_pytorch(name, x):
    agrees(OF_ONE[name], x)


@given(name=st.sampled_from(sorted(OF_TWO)), data=st.data())
@settings(max_examples=150)
def test_an_operator_of_two_tensors_gives_the_shape_and_the_error_of_pytorch(name, data):
    x = data.draw(meta_tensors())
    y = data.draw(meta_tensors() | meta_tensors(dims=st.just(x.dim()), dtypes=st.just(x.dtype)))
    agrees(OF_TWO[name], x, y)


@given(
    x=meta_tensors(dims=st.just(4)),
    weight=st.lists(st.integers(1, 3), min_size=4, max_size=4),
    stride_padding_dilation=st.tuples(
        *[st.integers(0, 2) | st.tuples(st.integers(1, 2), st.integers(1, 2))] * 3
    ),
    groups=st.integers(1, 2),
    biased=st.booleans(),
)
@settings(max_examples=150)
def test_a_convolution_gives_the_shape_and_the_error_of_pytorch(
    x, weight, stride_padding_dilation, groups, biased
):
    kernel = torch.empty(weight, device="meta", dtype=x.dtype)
    bias = torch.empty(weight[0], device="meta", dtype=x.dtype) if biased else None
    agrees(lambda: F.conv2d(x, kernel, bias, *stride_padding_dilation, groups))


def test_a_convolution_with_a_named_padding_is_pytorchs():
    x, weight = torch.empty(1, 2, 5, 5, device="meta"), torch.empty(4, 2, 3, 3, device="meta")
    agrees(lambda: F.conv2d(x, weight, padding="same"))
