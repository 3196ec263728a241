"""Parameters and multiply-adds (MACs) of a model."""

import copy
import itertools
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ema_lab.errors import CostError, error_summary
from ema_lab.profiling.rules import rules, uncounted

_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # equivalent to GroupNorm(n, n)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMS = (*_BATCH, *_INSTANCE, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
CONVENTIONS = {
    "matmul": "multiply-adds of convolutions, linear layers and matrix products",
    "fvcore": "multiply-adds as fvcore counts them: convolutions, linear layers, matrix products, norms"
    " (not its average pooling, which it sees in one spelling only)",
    "all": "those, and one operation per element of each step of element-wise functions, poolings and sums",
}
ACTIVATIONS = (
    "activations: elements that convolutions, linear layers and matrix products write, for one image"
)
KEYS = {"matmul": "macs_matmul", "fvcore": "macs", "all": "macs_all"}


def measure_cost(model: nn.Module, *, image_size: int | tuple[int, int], channels: int = 3) -> dict[str, Any]:
    """Count a model's parameters and its multiply-adds (MACs) for one image.

    One multiply-add counts as one MAC. `ema_lab.profiling.rules` has the rules. Torch's FLOP formulas
    count the matrix products a second time, and both counts must agree. The cost does not depend on the
    device, so a copy of the model is counted on the CPU, in eval mode.

    Args:
        model: A module that takes (1, channels, height, width).
        image_size: Height and width of the image in pixels; one number if they are equal.
        channels: Number of channels of the image.

    Returns:
        The parameters, under the keys of `count_parameters`;
        `macs_matmul`, `macs` and `macs_all`: the conventions `matmul`, `fvcore` and `all` of `CONVENTIONS`;
        `macs_thop`: the count of thop 0.0.31 (see `ema_lab.profiling.rules`), and `macs_thop_fused`: the same
        after fusing batch norms into convolutions, as `parameters_fused` does;
        `activations`: elements that convolutions, linear layers and matrix products write;
        `uncounted`: operators without a rule, each estimated as one operation per output element.

    Raises:
        CostError: If the model cannot be copied or traced, or the two counts disagree.

    Example:
        >>> ema_lab.measure_cost(ema_lab.build_attention("se", 64), image_size=8, channels=64)["parameters"]
        512
    """
    by_module = _analyse(model, image_size, channels)
    counted = _summary(by_module[""])
    # Thop counts two operations per element of a batch norm, and one of the bias that takes its place.
    saved = sum(by_module[name]["thop"] // 2 for name, _ in _fused_norms(model) if name in by_module)
    return {**count_parameters(model), **counted, "macs_thop_fused": counted["macs_thop"] - saved}


def measure_layers(
    model: nn.Module, names: Sequence[str], *, image_size: int | tuple[int, int], channels: int = 3
) -> dict[str, dict[str, Any]]:
    """Count the cost of submodules, by qualified name, as `measure_cost` counts a whole model."""
    counted = _analyse(model, image_size, channels)
    return {
        name: {**count_parameters(model.get_submodule(name)), **_summary(counted[name])} for name in names
    }


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count a model's parameters, on the meta device too.

    Returns:
        `parameters`;
        `parameters_without_norm`: without the weights and biases of normalisation layers;
        `parameters_trainable`: those that require a gradient;
        `parameters_fused`: after fusing each batch norm into the bias-free convolution directly before it,
        as for deployment.
    """
    norms = (p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False))
    in_norms = sum(p.numel() for p in {id(p): p for p in norms}.values())  # shared parameters count once
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    return {
        "parameters": total,
        "parameters_without_norm": total - in_norms,
        "parameters_trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "parameters_fused": total - sum(norm.num_features for _, norm in _fused_norms(model)),
    }


def _fused_norms(model: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """Yield the name of each batch norm that the bias-free convolution directly before it can absorb.

    A batch norm has a weight and a bias per channel. The fused convolution keeps one bias per channel.
    """
    for parent, module in model.named_modules():
        for (_, conv), (name, norm) in itertools.pairwise(module.named_children()):
            if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            if conv.bias is None and norm.affine and norm.num_features == conv.out_channels:
                yield f"{parent}.{name}".lstrip("."), norm


def _summary(counted: Mapping[str, int]) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    for key, count in counted.items():
        kinds[key.partition(" ")[0]] += count
    product, norm, other = (kinds[kind] for kind in ("product", "norm", "other"))
    unknown = {
        key.removeprefix("uncounted "): n for key, n in counted.items() if key.startswith("uncounted ")
    }
    return {
        "macs": product + norm,
        "macs_matmul": product,
        "macs_all": product + norm + other,
        "macs_thop": kinds["thop"],
        "activations": kinds["activations"],
        "uncounted": dict(sorted(unknown.items())),
    }


def _analyse(
    model: nn.Module, image_size: int | tuple[int, int], channels: int
) -> Mapping[str, Mapping[str, int]]:
    """Count each submodule by kind, and check the matrix products against torch's own counter."""
    try:
        copied = copy.deepcopy(model).cpu().eval()
    except Exception as error:  # the model may hold anything
        raise CostError(
            f"the model cannot be copied, so nothing is counted: {error_summary(error)}"
        ) from error
    noise = torch.Generator().manual_seed(0)  # on zeros, code that branches on values might do nothing
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    image = torch.randn(1, channels, *sides, generator=noise)
    with _unfused():
        counted = _trace_by_module(copied, image)
        _cross_check(copied, image, counted[""])
    return counted


def _trace_by_module(model: nn.Module, image: torch.Tensor) -> Mapping[str, Mapping[str, int]]:
    analysis = _trace(model, image, {})
    if unknown := analysis.unsupported_ops():  # a second trace estimates them from their output shapes
        analysis = _trace(model, image, {name: uncounted(name) for name in unknown})
    counts: Mapping[str, Mapping[str, int]] = analysis.by_module_and_operator()
    return counts


def _trace(model: nn.Module, image: torch.Tensor, more: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit's deprecation, at fvcore's import and in its trace
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        analysis = FlopCountAnalysis(model, image)
        analysis.clear_op_handles().set_op_handle(**rules(), **more)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        try:
            analysis.total()
        except Exception as error:  # the model's own code may raise anything
            message = f"torch.jit cannot trace the model, so nothing is counted: {error_summary(error)}"
            raise CostError(message) from error
    return analysis


@contextmanager
def _unfused() -> Iterator[None]:
    """Disable fused attention kernels, which neither counter looks into, while a block runs."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _cross_check(model: nn.Module, image: torch.Tensor, counted: Mapping[str, int]) -> None:
    """Compare the matrix products with a count by torch's formulas."""
    with _FormulaCounter() as counter, torch.no_grad():
        model(image)
    products = {key.removeprefix("product "): n for key, n in counted.items() if key.startswith("product ")}
    if counter.flops.total() == 2 * sum(products.values()):
        return
    torch_counts = {str(op): count // 2 for op, count in counter.flops.items()}
    raise CostError(
        f"two counters disagree on the multiply-adds of matrix products: {_listed(products)} by our rules, "
        f"{_listed(torch_counts)} by torch's formulas"
    )


class _FormulaCounter(TorchDispatchMode):
    """Counter of FLOPs, by operator, with torch's formulas and those for operators that it lacks.

    It counts as torch's FlopCounterMode does, without sums by module. That class imports torch's compiler,
    which takes longer than counting a small model.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry, shape_wrapper

        own = {getattr(torch.ops.aten, name): formula for name, formula in _UNKNOWN_TO_TORCH.items()}
        self._formulas = {**flop_registry, **{op: shape_wrapper(formula) for op, formula in own.items()}}
        self.flops: Counter[Any] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would import its compiler to keep it out of a mode's code."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = func._overloadpacket
        if operator not in self._formulas:
            with self:  # an operator made of others is counted by those
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        if operator in self._formulas:
            self.flops[operator] += self._formulas[operator](*args, **kwargs, out_val=output)
        return output


# FLOPs, two per multiply-add, from the shapes of the inputs.
_UNKNOWN_TO_TORCH: Mapping[str, Callable[..., int]] = {
    "dot": lambda a, *_, **__: 2 * math.prod(a),
    "vdot": lambda a, *_, **__: 2 * math.prod(a),
    "mv": lambda a, *_, **__: 2 * math.prod(a),
    "addmv": lambda _bias, a, *_, **__: 2 * math.prod(a),
    "addbmm": lambda _bias, a, b, *_, **__: 2 * math.prod(a) * b[-1],
    "mkldnn_rnn_layer": lambda x, a, b, *_, **__: 2 * math.prod(x[:-1]) * (math.prod(a) + math.prod(b)),
}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count) or "none"
