"""What each operator of a traced forward pass costs: one written rule per operator.

A rule takes an operator's inputs and outputs, as torch.jit traces them, and returns its cost by kind:

* `product`: multiply-adds of convolutions, linear layers and matrix products: the convention `matmul`;
* `norm`: what fvcore counts besides those (normalisations, upsampling): with `product`, the convention
  `fvcore`;
* `other`: one operation for each output element of an element-wise function, and for each input element
  of a mean, sum or maximum; a function that is a short formula costs what the formula does (SiLU is a
  sigmoid and a product: two); with the two above, the convention `all`;
* `thop`: what thop counted in the years of these papers (0.0.31): convolutions with their biases, linear
  layers, two for each element of a batch norm, and the windows of average pooling with their divisions.
  It saw layers only; here a mean over rows, columns or both counts as the layer that it replaces.

What only moves or names data costs nothing. An operator without a rule is uncounted.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rule = Callable[[Sequence[Any], Sequence[Any]], "Counter[str]"]

# One operation for each element of the output.
ELEMENTWISE = (
    "abs", "add", "atan", "ceil", "clamp", "clamp_max", "clamp_min", "cos", "div", "elu", "eq", "erf", "exp",
    "expm1", "floor", "gelu", "gt", "ge", "hardsigmoid", "hardtanh", "kron", "leaky_relu", "log",
    "log1p", "lt", "le", "maximum", "minimum", "mul", "ne", "neg", "outer", "pow", "prelu", "reciprocal",
    "relu", "relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sigmoid", "sign", "sin",
    "softplus", "sqrt", "square", "sub", "tan", "tanh", "where", "log_sigmoid",
)  # fmt: skip
# Operations for each element of the output: x sigmoid(x); x hardsigmoid(x); a sigmoid(b);
# x tanh(softplus(x)); a + v b c and the like.
PER_OUTPUT_ELEMENT = {
    "silu": 2, "hardswish": 2, "glu": 2, "mish": 3, "lerp": 3, "addcmul": 2, "addcdiv": 2,
}  # fmt: skip
# One operation for each element of the input.
REDUCTIONS = (
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "amin", "argmax", "argmin",
    "cumsum", "max", "min", "prod", "sum",
)  # fmt: skip
# Operations per element of the input: x - mean, square, sum; square, sum; max, x - max, exp, sum, division;
# square, sum, division, scale.
PER_INPUT_ELEMENT = {
    "var": 3, "std": 3, "var_mean": 3, "std_mean": 3, "norm": 2, "linalg_vector_norm": 2, "frobenius_norm": 2,
    "softmax": 5, "log_softmax": 5, "logsumexp": 4, "rms_norm": 4,
}  # fmt: skip
MEANS = ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean")
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
FFTS = tuple(f"fft_{kind}{n}" for kind in ("fft", "ifft", "rfft", "irfft") for n in ("", "2", "n"))


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
    for name, factor in {**dict.fromkeys(ELEMENTWISE, 1), **PER_OUTPUT_ELEMENT}.items():
        found |= dict.fromkeys((name, f"{name}_"), _each_output(factor))
    for name, factor in {**dict.fromkeys(REDUCTIONS, 1), **PER_INPUT_ELEMENT}.items():
        found[name] = _each_input(factor)
    found |= dict.fromkeys(MEANS, _mean)
    found |= dict.fromkeys(POOLS, _pool) | {f"{name}_with_indices": _pool for name in POOLS[3:]}
    found |= dict.fromkeys(FFTS, _fft)
    found |= {name: None for free in FREE for name in (free, f"{free}_")}
    found |= {name: _product(name, count) for name, count in PRODUCTS.items()}
    found["einsum"] = _einsum
    found["scaled_dot_product_attention"] = _attention
    found |= dict.fromkeys(RECURRENT, _recurrent)
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


def _each_output(factor: int) -> Rule:
    return lambda _inputs, outputs: Counter({"other": factor * elements(outputs[0])})


def _each_input(factor: int) -> Rule:
    return lambda inputs, _outputs: Counter({"other": factor * elements(inputs[0])})


def uncounted(name: str) -> Rule:
    """Return the rule of an operator that has none: it is listed, with an operation per output element."""
    return lambda _inputs, outputs: Counter({f"uncounted {name}": sum(map(elements, outputs))})


def _mean(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count an operation for each element of the input; to thop, spatial means are average pooling."""
    work, rank = elements(inputs[0]), len(shape(inputs[0]) or [])
    is_layer = "mean" not in outputs[0].node().kind()
    dims = [] if is_layer or len(inputs) < 2 else _numbers(inputs[1])
    is_spatial = bool(dims) and all(dim is not None and dim % rank >= 2 for dim in dims)
    return Counter({"other": work, "thop": work + elements(outputs[0]) if is_layer or is_spatial else 0})


def _pool(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count an operation for each element of each window."""
    window = _numbers(inputs[1])
    dimensions = len(shape(inputs[0]) or []) - 2
    sizes = [size or 1 for size in window]
    area = math.prod(sizes if len(sizes) > 1 else sizes * max(1, dimensions))
    work = elements(outputs[0]) * area
    if None in window:  # it was computed from the image's size: windows that do not overlap
        work = elements(inputs[0])
    is_average = "avg" in outputs[0].node().kind()
    return Counter({"other": work, "thop": work + elements(outputs[0]) if is_average else 0})


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
    dims = list(range(len(side))) if kind.endswith("n") else [-2, -1] if kind.endswith("2") else [-1]
    lengths, given = ([n for n in _numbers(value) if n is not None] for value in inputs[1:3])
    along = [side[dim] for dim in (given or dims)]
    points = math.prod(lengths or along)  # an input is cut or padded to the lengths that are asked for
    count = math.prod(side) // max(math.prod(along), 1) * 2 * points * math.ceil(math.log2(max(points, 2)))
    return Counter({"other": count // 2 if "rfft" in kind else count})


def _product(name: str, count: Callable[[Sequence[Any], Sequence[Any]], int]) -> Rule:
    def rule(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        work = count(inputs, outputs)
        found = Counter({f"product {name.lstrip('_')}": work, "activations": elements(outputs[0])})
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
    "vdot": _rows_times_columns(0),
    "inner": _rows_times_columns(0),
    "addmv": _rows_times_columns(1),
    "addbmm": lambda inputs, _outputs: elements(inputs[1]) * (shape(inputs[2]) or [0])[-1],
    "addmm": _rows_times_columns(1),
    "baddbmm": _rows_times_columns(1),
    "tensordot": _tensordot,
}
SEEN_BY_THOP = ("_convolution", "_convolution_mode", "linear")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count both products, the scaling and the softmax of softmax(s q k^T) v, as if nothing were masked."""
    query, key, value = (shape(item) or [] for item in inputs[:3])
    weights = math.prod(query[:-1]) * key[-2]
    found = Counter({"product attention": weights * (query[-1] + value[-1]), "other": 6 * weights})
    return found + Counter({"activations": weights + elements(outputs[0])})


def _recurrent(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count each weight matrix once for each step of each sequence, of what is (steps, sequences, features).

    The gates' functions are left out: they are few beside the products.
    """
    steps = math.prod((shape(inputs[0]) or [0])[:-1])
    weights = [shape(value) or [] for value in inputs[2].node().inputs()]
    work = steps * sum(math.prod(weight) for weight in weights if len(weight) == 2)
    rows = steps * sum(weight[0] for weight in weights if len(weight) == 2)
    return Counter({"product recurrent": work, "activations": rows})


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
