"""What each operator of a traced forward pass costs: one written rule per operator.

A rule takes an operator's inputs and outputs, as torch.jit traces them, and returns its cost by kind:

* `product`: multiply-adds of convolutions, linear layers and matrix products: the convention `matmul`;
* `norm`: what fvcore counts besides those (normalisations, upsampling): with `product`, the convention
  `fvcore`;
* `other`: one operation for each output element of an element-wise function, and for each input element
  of a mean, sum or maximum; with the two above, the convention `all`;
* `thop`: what thop counted in the years of these papers (0.0.31): convolutions with their biases, linear
  layers, and two for each element of a batch norm. The pooling layers that it also counted are left out:
  it saw them in one spelling only.

What only moves or names data costs nothing. An operator without a rule is uncounted.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

Kind = Literal["product", "norm", "other", "activations", "missed", "thop", "uncounted"]
Rule = Callable[[Sequence[Any], Sequence[Any]], "Counter[str]"]

# One operation for each element of the output.
ELEMENTWISE = (
    "abs", "add", "atan", "ceil", "clamp", "clamp_max", "clamp_min", "cos", "div", "elu", "eq", "erf", "exp",
    "expm1", "floor", "gelu", "glu", "gt", "ge", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log",
    "log1p", "lt", "le", "maximum", "minimum", "mish", "mul", "ne", "neg", "pow", "prelu", "reciprocal",
    "relu", "relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sigmoid", "sign", "silu", "sin",
    "softplus", "sqrt", "square", "sub", "tan", "tanh", "where", "log_sigmoid",
)  # fmt: skip
# One operation for each element of the input.
REDUCTIONS = (
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "amin", "argmax", "argmin", "cumsum", "max", "mean",
    "min", "prod", "sum",
)  # fmt: skip
# Operations per element of the input: x - mean, square, sum; square, sum; max, x - max, exp, sum, division.
PER_INPUT_ELEMENT = {
    "var": 3, "std": 3, "var_mean": 3, "std_mean": 3, "norm": 2, "linalg_vector_norm": 2, "frobenius_norm": 2,
    "softmax": 5, "log_softmax": 5, "logsumexp": 4, "lerp": 3, "addcmul": 2, "addcdiv": 2,
}  # fmt: skip
POOLS = ("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d")
# Data are moved, repeated or named, or nothing happens in eval mode.
FREE = (
    "alias", "alpha_dropout", "arange", "as_strided", "broadcast_tensors", "cat", "channel_shuffle",
    "chunk", "clone", "concat", "constant_pad_nd", "contiguous", "copy", "detach", "dropout", "empty",
    "expand", "expand_as", "feature_alpha_dropout", "feature_dropout", "flatten", "flip", "full",
    "full_like", "gather", "index", "index_select", "masked_fill", "meshgrid", "movedim", "narrow",
    "native_channel_shuffle", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "pad", "permute",
    "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d", "repeat",
    "repeat_interleave", "replication_pad1d", "replication_pad2d", "reshape", "reshape_as",
    "resolve_conj", "roll", "scatter", "select", "slice", "split", "split_with_sizes", "squeeze", "stack",
    "swapaxes", "t", "tensor_split", "tile", "to", "transpose", "type_as", "unbind", "unflatten",
    "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "view", "view_as", "view_as_complex",
    "view_as_real", "zeros", "zeros_like", "complex", "real", "imag",
)  # fmt: skip
FFTS = ("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2")


def shape(value: Any) -> list[int] | None:
    """Return a traced value's shape; None if it is no tensor of a known shape."""
    from fvcore.nn.jit_handles import get_shape

    found: list[int] | None = get_shape(value)
    return found


def elements(value: Any) -> int:
    """Return a traced tensor's number of elements; a number that is traced as a tensor has none."""
    found = shape(value)
    return math.prod(found) if found else 0


def rules() -> dict[str, Rule | None]:
    """Return the rule of each operator, by its name in a trace; None where it costs nothing."""
    found: dict[str, Rule | None] = {}
    for name in ELEMENTWISE:
        found |= dict.fromkeys((name, f"{name}_"), _each_output)
    for name, factor in {**dict.fromkeys(REDUCTIONS, 1), **PER_INPUT_ELEMENT}.items():
        found[name] = _each_input(factor)
    found |= dict.fromkeys(POOLS, _pool) | {f"{name}_with_indices": _pool for name in POOLS[3:]}
    found |= dict.fromkeys(FFTS, _fft)
    found |= {name: None for free in FREE for name in (free, f"{free}_")}
    found |= {name: _product(name, count) for name, count in PRODUCTS.items()}
    found["einsum"] = _einsum
    found["scaled_dot_product_attention"] = _attention
    return {f"aten::{name}": rule for name, rule in found.items()} | _norms()


def _norms() -> dict[str, Rule]:
    """Return fvcore's rules for what is neither a matrix product nor pooling."""
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS

    names = [name for name in _DEFAULT_SUPPORTED_OPS if "norm" in name or "upsample" in name]
    return {name: _norm(name, _DEFAULT_SUPPORTED_OPS[name]) for name in [*names, "aten::grid_sampler"]}


def _norm(name: str, handle: Callable[..., Any]) -> Rule:
    def rule(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        work = int(handle(inputs, outputs))
        found = Counter({f"norm {name.removeprefix('aten::')}": work})
        if name == "aten::batch_norm":
            found["thop"] = 2 * elements(outputs[0])
        return found

    return rule


def _each_output(_inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    return Counter({"other": elements(outputs[0])})


def _each_input(factor: int) -> Rule:
    return lambda inputs, _outputs: Counter({"other": factor * elements(inputs[0])})


def uncounted(name: str) -> Rule:
    """Return the rule of an operator that has none: it is listed, with an operation per output element."""
    return lambda _inputs, outputs: Counter({f"uncounted {name}": sum(map(elements, outputs))})


def _pool(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count an operation for each element of each window."""
    window = _numbers(inputs[1])
    if None in window:  # it was computed from the image's size: windows that do not overlap
        return Counter({"other": elements(inputs[0])})
    dimensions = len(shape(inputs[0]) or []) - 2
    sizes = [size or 1 for size in window]
    area = math.prod(sizes if len(sizes) > 1 else sizes * max(1, dimensions))
    return Counter({"other": elements(outputs[0]) * area})


def _numbers(value: Any) -> list[int | None]:
    """Return the numbers of a traced list; None for one that is computed."""
    constant = value.toIValue()
    if isinstance(constant, int):
        return [constant]
    if constant is not None:
        return list(constant)
    return [item.toIValue() for item in value.node().inputs()]


def _fft(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count N/2 log2 N butterflies of four multiply-adds for each transform of N points; real ones half."""
    kind = inputs[0].node().kind() if not outputs else outputs[0].node().kind()
    side = shape(outputs[0] if "irfft" in kind else inputs[0]) or []
    dims = [-2, -1] if kind.endswith("2") else [-1]
    given = [dim for dim in _numbers(inputs[2]) if dim is not None] if len(inputs) > 2 else []
    points = math.prod(side[dim] for dim in (given or dims))
    count = math.prod(side) // max(points, 1) * 2 * points * math.ceil(math.log2(max(points, 2)))
    return Counter({"other": count // 2 if "rfft" in kind else count})


def _product(name: str, count: Callable[[Sequence[Any], Sequence[Any]], int]) -> Rule:
    def rule(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        work = count(inputs, outputs)
        found = Counter({f"product {name.lstrip('_')}": work, "activations": elements(outputs[0])})
        if name in WITH_VECTORS and any(len(shape(value) or []) == 1 for value in inputs[:2]):
            found["missed"] = work
        if name in SEEN_BY_THOP:
            has_bias = name != "linear" and shape(inputs[2]) is not None
            found["thop"] = work + (elements(outputs[0]) if has_bias else 0)
        return found

    return rule


def _convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    x, weight, out = (shape(value) or [] for value in (inputs[0], inputs[1], outputs[0]))
    transposed = len(inputs) > 8 and inputs[6].toIValue()
    return x[0] * math.prod(weight) * math.prod((x if transposed else out)[2:])


def _rows_times_columns(first: int) -> Callable[[Sequence[Any], Sequence[Any]], int]:
    """Each output element sums as many products as the last dimension of input `first` has elements."""
    return lambda inputs, outputs: math.prod(shape(outputs[0]) or []) * (shape(inputs[first]) or [0])[-1]


def _tensordot(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    out = elements(outputs[0])
    return out * math.isqrt(elements(inputs[0]) * elements(inputs[1]) // max(out, 1))


PRODUCTS: Mapping[str, Callable[[Sequence[Any], Sequence[Any]], int]] = {
    "_convolution": _convolution,
    "_convolution_mode": _convolution,
    "linear": _rows_times_columns(0),
    "mm": _rows_times_columns(0),
    "bmm": _rows_times_columns(0),
    "matmul": _rows_times_columns(0),
    "mv": _rows_times_columns(0),
    "dot": _rows_times_columns(0),
    "addmm": _rows_times_columns(1),
    "baddbmm": _rows_times_columns(1),
    "tensordot": _tensordot,
}
SEEN_BY_THOP = ("_convolution", "_convolution_mode", "linear")
WITH_VECTORS = ("matmul", "mv", "dot")  # torch's counter does not see products with a vector


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count both products of softmax(q k^T) v, as if no kernel skipped a masked part."""
    query, key, value = (shape(item) or [] for item in inputs[:3])
    weights = math.prod(query[:-1]) * key[-2]
    found = Counter({"product attention": weights * (query[-1] + value[-1]), "other": 5 * weights})
    return found + Counter({"activations": weights + elements(outputs[0])})


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count a product of pairs: from left to right, or along the path that torch chose."""
    equation = inputs[0].toIValue().replace(" ", "")
    shapes = [shape(value) or [] for value in inputs[1].node().inputs()]
    path = [number or 0 for number in _numbers(inputs[2])] if len(inputs) > 2 else []
    found = einsum_cost(equation, shapes, path)
    return found + Counter({"activations": elements(outputs[0])})


def einsum_cost(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] = ()) -> "Counter[str]":
    """Return the cost of an einsum as torch computes it.

    A label that only one operand has is summed first; what is left of a pair is one product of matrices,
    or, if nothing is summed, an element-wise one.

    Args:
        equation: Such as `bcn,bdn->bcd`; `...` stands for dimensions that are kept.
        shapes: Of the operands.
        path: Pairs of operand numbers, one after the other; by default always the first two.
    """
    terms, sizes, kept = _labels(equation, shapes)
    cost: Counter[str] = Counter()
    pairs = [sorted(pair) for pair in zip(path[::2], path[1::2], strict=True)] or [[0, 1]] * (len(terms) - 1)
    for first, second in pairs:
        right, left = terms.pop(second), terms.pop(first)
        wanted = set(kept).union(*terms)
        left_alone, right_alone = (set(a) - set(b) - wanted for a, b in ((left, right), (right, left)))
        for term, alone in ((left, left_alone), (right, right_alone)):
            cost["other"] += math.prod(sizes[label] for label in term) if alone else 0
        both = (set(left) | set(right)) - left_alone - right_alone
        work = math.prod(sizes[label] for label in both)
        cost["product einsum" if both - wanted else "other"] += work
        terms.append([label for label in [*left, *right] if label in wanted and label in both])
        terms[-1] = list(dict.fromkeys(terms[-1]))
    if set(terms[0]) - set(kept):  # one operand, of which a label is summed
        cost["other"] += math.prod(sizes[label] for label in terms[0])
    return cost


def _labels(
    equation: str, shapes: Sequence[Sequence[int]]
) -> tuple[list[list[str]], dict[str, int], list[str]]:
    """Return each operand's labels, the labels' sizes, and the labels of the result."""
    left, arrow, right = equation.partition("->")
    terms: list[list[str]] = []
    sizes: dict[str, int] = {}
    for term, dimensions in zip(left.split(","), shapes, strict=True):
        named = term.replace("...", "")
        before = term.index("...") if "..." in term else len(named)
        extra = len(dimensions) - len(named)
        dots = [f".{number}" for number in range(extra, 0, -1)]
        labels = [*named[:before], *dots, *named[before:]]
        terms.append(labels)
        for label, size in zip(labels, dimensions, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    dots = sorted({label for term in terms for label in term if label.startswith(".")}, reverse=True)
    if not arrow:
        letters = "".join("".join(term) for term in terms)
        return terms, sizes, [*dots, *(c for c in sorted(set(left) - set(",.")) if letters.count(c) == 1)]
    return terms, sizes, [*(dots if "..." in right else []), *right.replace("...", "")]
