"""Passes on the meta device: the shortcut gives the shapes and the errors of PyTorch's own emulation."""

import pytest
import torch
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
    except (RuntimeError, ValueError) as error:
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
