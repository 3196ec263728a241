"""Cost rules: counts do not depend on the spelling of a computation, and two counters agree."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ema_lab.errors import CostError
from ema_lab.profiling import rules as rules_module
from ema_lab.profiling.measure import count_parameters, measure_cost
from ema_lab.profiling.rules import einsum_cost

SIZE = 16  # images are 3 x 16 x 16


class Written(nn.Module):
    """Module that runs one computation on an image and an 8 x 3 matrix."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.w = nn.Parameter(torch.zeros(8, 3))

    def forward(self, x):
        return self.compute(x, self.w)


def cost_of(compute):
    return measure_cost(Written(compute), image_size=SIZE)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


MEANS = [
    lambda x, w: F.adaptive_avg_pool2d(x, 1),
    lambda x, w: x.mean((2, 3)),
    lambda x, w: F.avg_pool2d(x, x.shape[-1]),
    lambda x, w: F.avg_pool2d(x, SIZE),
]
MAXIMA = [
    lambda x, w: F.adaptive_max_pool2d(x, 1),
    lambda x, w: x.amax((2, 3)),
    lambda x, w: F.max_pool2d(x, SIZE),
]
POINTWISE = [
    lambda x, w: F.conv2d(x, w[:, :, None, None]),
    lambda x, w: F.conv2d(x, w[:, :, None, None], padding="same"),
    lambda x, w: F.linear(tokens(x), w),
    lambda x, w: tokens(x) @ w.t(),
    lambda x, w: w @ x.flatten(2),
    lambda x, w: torch.einsum("bchw,dc->bdhw", x, w),
    lambda x, w: torch.einsum("b c ..., d c -> b d ...", x, w),
    lambda x, w: torch.tensordot(x, w, dims=([1], [1])),
    lambda x, w: torch.bmm(w[None], x.flatten(2)),
    lambda x, w: torch.addmm(w[:, :1], w, x.flatten(2)[0]),
    lambda x, w: torch.baddbmm(w[:, :1], w[None], x.flatten(2)),
    lambda x, w: torch.mm(w, x[0].flatten(1)),
    lambda x, w: torch.inner(tokens(x), w),
    lambda x, w: torch.addbmm(w[:, :1], w[None], x.flatten(2)),
]
VECTORS = [  # 3 x 256 numbers, summed over 3
    lambda x, w: tokens(x)[0] @ w[0],
    lambda x, w: torch.mv(x[0].flatten(1).t(), w[0]),
    lambda x, w: torch.addmv(x[0, 0].flatten(), tokens(x)[0], w[0]),
    lambda x, w: w[0] @ x[0].flatten(1),
    lambda x, w: w[0] @ x.flatten(2),
    lambda x, w: torch.einsum("bchw,c->bhw", x, w[0]),
]
DOTS = [
    lambda x, w: torch.dot(w[0], w[1]),
    lambda x, w: torch.vdot(w[0], w[1]),
    lambda x, w: w[0] @ w[1],
    lambda x, w: torch.einsum("i,i->", w[0], w[1]),
]
ATTENTION = [
    lambda x, w: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x)),
    lambda x, w: (tokens(x) @ x.flatten(2) * 3**-0.5).softmax(-1) @ tokens(x),
]
GATES = [
    lambda x, w: x * x.sigmoid(),
    lambda x, w: x.mul(torch.sigmoid(x)),
    lambda x, w: x.sigmoid().mul_(x),
    lambda x, w: F.silu(x),
]
HARD_GATES = [lambda x, w: x * F.hardsigmoid(x), lambda x, w: F.hardswish(x)]
LINEAR_UNITS = [lambda x, w: x[..., :8] * x[..., 8:].sigmoid(), lambda x, w: F.glu(x, -1)]
MISH = [lambda x, w: x * F.softplus(x).tanh(), lambda x, w: F.mish(x)]
STRIPS = [
    lambda x, w: F.adaptive_avg_pool2d(x, (None, 1)),
    lambda x, w: x.mean(3),
    lambda x, w: F.avg_pool2d(x, (1, SIZE)),
]
STRIP_MAXIMA = [
    lambda x, w: F.adaptive_max_pool2d(x, (None, 1)),
    lambda x, w: x.amax(3),
    lambda x, w: x.max(3).values,
    lambda x, w: F.max_pool2d(x, (1, SIZE)),
]
SQUARES = [lambda x, w: x * x, lambda x, w: x**2, lambda x, w: x.square()]
FOURIER = [
    lambda x, w: torch.fft.fft2(x),
    lambda x, w: torch.fft.fftn(x, dim=(2, 3)),
    lambda x, w: torch.fft.fft(torch.fft.fft(x, dim=2), dim=3),
]
NORMS = [lambda x, w: F.instance_norm(x), lambda x, w: F.group_norm(x, 3)]
PADDED = [
    lambda x, w: torch.fft.irfft(torch.fft.rfft(x, n=64), n=64),
    lambda x, w: torch.fft.irfft(torch.fft.rfft(F.pad(x, (0, 64 - SIZE)))),
]
SPELLINGS = {
    "padded fourier": PADDED,
    "mean": MEANS, "max": MAXIMA, "1x1 convolution": POINTWISE, "vector": VECTORS, "dot": DOTS,
    "attention": ATTENTION, "silu": GATES, "hardswish": HARD_GATES, "glu": LINEAR_UNITS, "mish": MISH,
    "strip mean": STRIPS, "strip max": STRIP_MAXIMA, "square": SQUARES, "fourier": FOURIER, "norm": NORMS,
}  # fmt: skip


def test_every_spelling_costs_the_same():
    for spellings in SPELLINGS.values():
        costs = [cost_of(compute) for compute in spellings]
        compared = ("macs", "macs_matmul", "macs_all", *(("macs_thop",) if spellings is MEANS else ()))
        assert {tuple(cost[key] for key in compared) for cost in costs} == {
            tuple(costs[0][key] for key in compared)
        }
        assert all(cost["uncounted"] == {} for cost in costs)


@pytest.mark.parametrize(
    ("compute", "matmul", "everything"),
    [
        (MEANS[0], 0, 3 * SIZE**2),
        (POINTWISE[0], 8 * 3 * SIZE**2, 8 * 3 * SIZE**2),
        (ATTENTION[0], 2 * SIZE**4 * 3, 2 * SIZE**4 * 3 + 6 * SIZE**4),
        (GATES[0], 0, 2 * 3 * SIZE**2),
        (lambda x, w: x.softmax(1), 0, 5 * 3 * SIZE**2),
        (lambda x, w: F.avg_pool2d(x, 2), 0, 3 * SIZE**2),
        (lambda x, w: F.max_pool2d(x, 3, 1, 1), 0, 9 * 3 * SIZE**2),
        (lambda x, w: F.conv_transpose2d(x, w.t()[:, :, None, None], stride=2), 8 * 3 * SIZE**2, None),
        (lambda x, w: tokens(x) @ w[0], 3 * SIZE**2, 3 * SIZE**2),
        (lambda x, w: w[0] @ w[1], 3, 3),
        (lambda x, w: torch.fft.fft2(x).abs(), 0, 3 * 2 * SIZE**2 * 8 + 3 * SIZE**2),
        (lambda x, w: torch.einsum("bch,bcw->bchw", x.mean(3), x.mean(2)), 0, 3 * 3 * SIZE**2),
    ],
)
def test_costs_follow_the_written_rules(compute, matmul, everything):
    cost = cost_of(compute)
    assert cost["macs_matmul"] == matmul
    assert everything is None or cost["macs_all"] == everything


@pytest.mark.parametrize(
    ("dims", "thop"),
    [
        ((2, 3), 3 * SIZE**2 + 3),  # the input's elements, and a division for each mean
        (3, 3 * SIZE**2 + 3 * SIZE),
        (-2, 3 * SIZE**2 + 3 * SIZE),
        (1, 0),  # spatial attention has no layer for it
        ((1, 2, 3), 0),
    ],
)
def test_a_mean_over_rows_or_columns_counts_as_the_pooling_layer_of_thop(dims, thop):
    assert cost_of(lambda x, w: x.mean(dims))["macs_thop"] == thop


def test_thop_counts_the_biases_of_convolutions_but_not_those_of_linear_layers():
    products = 3 * 8 * SIZE**2
    convolution = cost_of(lambda x, w: F.conv2d(x, w[:, :, None, None], w[:, 0]))
    linear = cost_of(lambda x, w: F.linear(tokens(x), w, w[:, 0]))
    assert convolution["macs_thop"] == products + 8 * SIZE**2
    assert linear["macs_thop"] == products


def test_fused_attention_layers_are_counted():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(SIZE, 2, batch_first=True)

        def forward(self, x):
            rows = x.mean(1)
            return self.attention(rows, rows, rows, need_weights=False)[0]

    assert measure_cost(Layer(), image_size=SIZE)["macs_matmul"] == 4 * SIZE**3 + 2 * SIZE**3


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_are_counted(kind, gates):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = kind(SIZE, 8, batch_first=True)

        def forward(self, x):
            return self.recurrent(x[:, 0])[0]

    assert measure_cost(Layer(), image_size=SIZE)["macs_matmul"] == SIZE * gates * 8 * (SIZE + 8)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(3, affine=True), nn.GroupNorm(3, 3), nn.RMSNorm(6)])
def test_parameters_of_every_norm_are_recognised(norm):
    counted = count_parameters(nn.Sequential(nn.Conv2d(3, 3, 1), norm))
    assert (counted["parameters"], counted["parameters_without_norm"]) == (18, 12)


def test_parameters_that_norms_share_are_counted_once():
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    second.weight, second.bias = first.weight, first.bias
    for norm in (first, second):  # the same layer twice, and two layers with the same parameters
        counted = count_parameters(nn.Sequential(nn.Conv2d(3, 3, 1), first, nn.Conv2d(3, 3, 1), norm))
        assert (counted["parameters"], counted["parameters_without_norm"]) == (30, 24)


@pytest.mark.parametrize(
    ("layers", "fused"),
    [
        ((nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)), 16),  # twelve weights and four biases
        ((nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 24),  # no bias-free convolution: nothing is fused
        ((nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False)), 12),
        ((nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(4)), 20),
        ((nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, bias=False)), 18),
    ],
)
def test_a_norm_is_fused_into_the_bias_free_convolution_directly_before_it(layers, fused):
    assert count_parameters(nn.Sequential(*layers))["parameters_fused"] == fused


def test_an_image_may_be_higher_than_wide():
    costs = [measure_cost(nn.Conv2d(3, 4, 1), image_size=size)["macs"] for size in (6, (6, 6), (6, 10))]
    assert costs == [12 * 36, 12 * 36, 12 * 60]


def test_what_cannot_be_copied_is_an_error_that_says_so():
    model = nn.Conv2d(3, 4, 1)
    model.doubled = 2 * model.weight
    with pytest.raises(CostError, match="cannot be copied, so nothing is counted: RuntimeError"):
        measure_cost(model, image_size=SIZE)


def test_an_operator_without_a_rule_is_listed_with_an_estimate():
    assert cost_of(lambda x, w: torch.special.i0(x))["uncounted"] == {"aten::i0": 3 * SIZE**2}


def test_counters_that_disagree_are_an_error_that_names_both(monkeypatch):
    monkeypatch.setitem(rules_module.PRODUCTS, "mm", lambda inputs, outputs: 7)
    message = r"mm 7 by our rules, aten.mm 6,144 by torch's formulas"
    with pytest.raises(CostError, match=message):
        cost_of(lambda x, w: torch.mm(w, x[0].flatten(1)))


def test_what_cannot_be_traced_is_an_error_that_says_so():
    def compute(x, w):
        raise RuntimeError("not here")

    with pytest.raises(CostError, match=r"torch.jit cannot trace the model, .*: RuntimeError: not here"):
        cost_of(compute)


LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)


@given(LABELS, LABELS, st.data())
def test_an_einsum_of_two_costs_what_torch_computes(left, right, data):
    sizes = dict(zip("abcd", (2, 3, 5, 7), strict=True))
    out = data.draw(st.lists(st.sampled_from(sorted({*left, *right})), unique=True, max_size=4))
    equation = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    operands = [torch.zeros([sizes[label] for label in term]) for term in (left, right)]
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as flops:
        torch.einsum(equation, *operands)
    cost = einsum_cost(equation, [tuple(operand.shape) for operand in operands])
    assert flops.get_total_flops() == 2 * cost["product einsum"]
