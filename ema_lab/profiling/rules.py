"""Cost rules: one rule for each operator of a traced forward pass.

A rule takes an operator's inputs and outputs, as torch.jit traces them, and returns its cost by kind:

* `product`: multiply-adds of convolutions, linear layers and matrix products. Convention `matmul`.
* `norm`: normalisations and upsampling, as fvcore counts them. With `product`: convention `fvcore`.
* `other`: one operation per output element of an element-wise function, and per input element of a mean,
  sum or maximum. A composite function costs the sum of its steps: SiLU is a sigmoid and a product, two.
  With the two above: convention `all`.
* `thop`: the count of thop 0.0.31, which the papers of the time used. It covers convolutions with their
  biases, linear layers, two operations per element of a batch norm, and average pooling with its divisions.
  Thop counts layers only; here a mean over rows, columns or both counts as the pooling layer it replaces.

Operators that only move or name data cost nothing. An operator without a rule is reported as uncounted.
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
# Operations for each element of the output, one per step of the formula: x sigmoid(x); x hardsigmoid(x);
# a sigmoid(b); x tanh(softplus(x)); a + t (b - a); a + v b c; a + v b / c (v = 1).
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
# Operators that move, repeat or name data, or do nothing in eval mode.
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
    """Return the shape of a traced value; None if the value is not a tensor or its shape is unknown."""
    from fvcore.nn.jit_handles import get_shape

    dimensions: list[int] | None = get_shape(value)
    return dimensions


def elements(value: Any) -> int:
    """Return the number of elements of a traced tensor; 0 for a number that is traced as a tensor."""
    dimensions = shape(value)
    return math.prod(dimensions) if dimensions else 0


def rules() -> dict[str, Rule | None]:
    """Return the rule of each operator by its name in a trace; None if the operator costs nothing."""
    table: dict[str, Rule | None] = {}
    for name, factor in {**dict.fromkeys(ELEMENTWISE, 1), **PER_OUTPUT_ELEMENT}.items():
        table |= dict.fromkeys((name, f"{name}_"), _each_output(factor))
    for name, factor in {**dict.fromkeys(REDUCTIONS, 1), **PER_INPUT_ELEMENT}.items():
        table[name] = _each_input(factor)
    table |= dict.fromkeys(MEANS, _mean)
    table |= dict.fromkeys(POOLS, _pool) | {f"{name}_with_indices": _pool for name in POOLS[3:]}
    table |= dict.fromkeys(FFTS, _fft)
    table |= {name: None for free in FREE for name in (free, f"{free}_")}
    table |= {name: _product(name, count) for name, count in PRODUCTS.items()}
    table["einsum"] = _einsum
    table["scaled_dot_product_attention"] = _attention
    table |= dict.fromkeys(RECURRENT, _recurrent)
    return {f"aten::{name}": rule for name, rule in table.items()} | _norms()


def _norms() -> dict[str, Rule]:
    """Return fvcore's own rules for normalisations, upsampling and grid sampling."""
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS

    names = [name for name in _DEFAULT_SUPPORTED_OPS if "norm" in name or "upsample" in name]
    return {name: _norm(name, _DEFAULT_SUPPORTED_OPS[name]) for name in [*names, "aten::grid_sampler"]}


def _norm(name: str, handle: Callable[..., Any]) -> Rule:
    def rule(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        work = int(handle(inputs, outputs))
        cost = Counter({f"norm {name.removeprefix('aten::')}": work})
        if name == "aten::batch_norm":
            cost["thop"] = 2 * elements(outputs[0])
        return cost

    return rule


def _each_output(factor: int) -> Rule:
    return lambda _inputs, outputs: Counter({"other": factor * elements(outputs[0])})


def _each_input(factor: int) -> Rule:
    return lambda inputs, _outputs: Counter({"other": factor * elements(inputs[0])})


def uncounted(name: str) -> Rule:
    """Return a fallback rule: list the operator as uncounted, with one operation per output element."""
    return lambda _inputs, outputs: Counter({f"uncounted {name}": sum(map(elements, outputs))})


def _mean(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count one operation per input element; for thop, spatial means count as average pooling."""
    work, rank = elements(inputs[0]), len(shape(inputs[0]) or [])
    is_layer = "mean" not in outputs[0].node().kind()  # adaptive_avg_pool, not a call of mean()
    dims = [] if is_layer or len(inputs) < 2 else _numbers(inputs[1])
    # Code writes global pooling as a layer or as a mean over H and W. Both must give the same count, so a
    # mean counts for thop if it is over rows or columns (dimensions from 2), but not over channels.
    is_spatial = bool(dims) and all(dim is not None and dim % rank >= 2 for dim in dims)
    return Counter({"other": work, "thop": work + elements(outputs[0]) if is_layer or is_spatial else 0})


def _pool(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count one operation for each element of each window."""
    window = _numbers(inputs[1])
    dimensions = len(shape(inputs[0]) or []) - 2
    sizes = [size or 1 for size in window]
    area = math.prod(sizes if len(sizes) > 1 else sizes * max(1, dimensions))
    work = elements(outputs[0]) * area
    if None in window:  # computed from the image's size: windows do not overlap, each input counts once
        work = elements(inputs[0])
    is_average = "avg" in outputs[0].node().kind()
    return Counter({"other": work, "thop": work + elements(outputs[0]) if is_average else 0})


def _numbers(value: Any) -> list[int | None]:
    """Return the numbers of a traced list; None for a number that is computed at run time."""
    constant = value.toIValue()
    if isinstance(constant, int):
        return [constant]
    if constant is not None:
        return list(constant)
    return [item.toIValue() for item in value.node().inputs()]


def _fft(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count N/2 log2 N butterflies of four multiply-adds per transform of N points; half for real ones."""
    kind = inputs[0].node().kind() if not outputs else outputs[0].node().kind()
    # The real side has all N points; the other side of a real transform has N/2 + 1.
    side = shape(outputs[0] if "irfft" in kind else inputs[0]) or []
    dims = list(range(len(side))) if kind.endswith("n") else [-2, -1] if kind.endswith("2") else [-1]
    lengths, chosen_dims = ([n for n in _numbers(value) if n is not None] for value in inputs[1:3])
    along = [side[dim] for dim in (chosen_dims or dims)]
    points = math.prod(lengths or along)  # torch cuts or pads the input to explicit lengths
    count = math.prod(side) // max(math.prod(along), 1) * 2 * points * math.ceil(math.log2(max(points, 2)))
    return Counter({"other": count // 2 if "rfft" in kind else count})


def _product(name: str, count: Callable[[Sequence[Any], Sequence[Any]], int]) -> Rule:
    def rule(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        work = count(inputs, outputs)
        cost = Counter({f"product {name.lstrip('_')}": work, "activations": elements(outputs[0])})
        if name in COUNTED_BY_THOP:
            has_bias = name != "linear" and shape(inputs[2]) is not None  # thop ignores a linear layer's bias
            cost["thop"] = work + (elements(outputs[0]) if has_bias else 0)
        return cost

    return rule


def _convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    x, weight, out = (shape(value) or [] for value in (inputs[0], inputs[1], outputs[0]))
    # Each weight is used once per output pixel, or per input pixel if the convolution is transposed. The
    # weight's shape is already divided by the groups.
    transposed = len(inputs) > 8 and inputs[6].toIValue()
    return x[0] * math.prod(weight) * math.prod((x if transposed else out)[2:])


def _rows_times_columns(first: int) -> Callable[[Sequence[Any], Sequence[Any]], int]:
    """Count, per output element, one product for each element of the last dimension of input `first`."""
    return lambda inputs, outputs: math.prod(shape(outputs[0]) or []) * (shape(inputs[first]) or [0])[-1]


def _tensordot(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    # a = rows x summed, b = summed x columns, out = rows x columns: summed^2 = a b / out.
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
COUNTED_BY_THOP = ("_convolution", "_convolution_mode", "linear")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count softmax(s q k^T) v: both products, the scaling (1) and the softmax (5). A mask saves nothing."""
    query, key, value = (shape(item) or [] for item in inputs[:3])
    weights = math.prod(query[:-1]) * key[-2]
    cost = Counter({"product attention": weights * (query[-1] + value[-1]), "other": 6 * weights})
    return cost + Counter({"activations": weights + elements(outputs[0])})


def _recurrent(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count each weight matrix once per step of each sequence; the input is (steps, sequences, features).

    The gates' element-wise functions are left out, because they are few beside the products.
    """
    steps = math.prod((shape(inputs[0]) or [0])[:-1])
    weights = [shape(value) or [] for value in inputs[2].node().inputs()]
    work = steps * sum(math.prod(weight) for weight in weights if len(weight) == 2)
    rows = steps * sum(weight[0] for weight in weights if len(weight) == 2)
    return Counter({"product recurrent": work, "activations": rows})


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> "Counter[str]":
    """Count an einsum pair by pair: from left to right, or along the path that torch chose."""
    equation = inputs[0].toIValue().replace(" ", "")
    shapes = [shape(value) or [] for value in inputs[1].node().inputs()]
    path = [number or 0 for number in _numbers(inputs[2])] if len(inputs) > 2 else []
    cost = einsum_cost(equation, shapes, path)
    return cost + Counter({"activations": elements(outputs[0])})


def einsum_cost(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] = ()) -> "Counter[str]":
    """Return the cost of an einsum as torch computes it.

    Torch first sums each label that only one operand of a pair has. The rest of the pair is one matrix
    product, or an element-wise product if no label is summed.

    Args:
        equation: Such as `bcn,bdn->bcd`; `...` stands for dimensions that are kept.
        shapes: The shapes of the operands.
        path: Pairs of operand numbers, in order; by default always the first two operands.
    """
    terms, sizes, result = _labels(equation, shapes)
    cost: Counter[str] = Counter()
    pairs = [sorted(pair) for pair in zip(path[::2], path[1::2], strict=True)] or [[0, 1]] * (len(terms) - 1)
    for first, second in pairs:
        right, left = terms.pop(second), terms.pop(first)
        needed = set(result).union(*terms)  # labels that the result or a later pair still uses
        left_only, right_only = (set(a) - set(b) - needed for a, b in ((left, right), (right, left)))
        for term, unshared in ((left, left_only), (right, right_only)):
            cost["other"] += math.prod(sizes[label] for label in term) if unshared else 0
        both = (set(left) | set(right)) - left_only - right_only
        work = math.prod(sizes[label] for label in both)
        cost["product einsum" if both - needed else "other"] += work
        terms.append([label for label in [*left, *right] if label in needed and label in both])
        terms[-1] = list(dict.fromkeys(terms[-1]))
    if set(terms[0]) - set(result):  # the only operand has a label that is summed
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
        letters = term.replace("...", "")
        split = term.index("...") if "..." in term else len(letters)
        extra = len(dimensions) - len(letters)
        dots = [f".{number}" for number in range(extra, 0, -1)]  # from the right, as broadcasting aligns
        labels = [*letters[:split], *dots, *letters[split:]]
        terms.append(labels)
        for label, size in zip(labels, dimensions, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    dots = sorted({label for term in terms for label in term if label.startswith(".")}, reverse=True)
    if not arrow:
        used = "".join("".join(term) for term in terms)
        return terms, sizes, [*dots, *(c for c in sorted(set(left) - set(",.")) if used.count(c) == 1)]
    return terms, sizes, [*(dots if "..." in right else []), *right.replace("...", "")]
