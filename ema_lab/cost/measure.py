"""Parameters and multiply-adds of a model."""

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

from ema_lab.cost.rules import rules, uncounted
from ema_lab.errors import CostError, error_summary

_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # GroupNorm(n, n) in other words
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

    One multiply-add is one. The rules are those of `ema_lab.cost.rules`; the matrix products are counted a
    second time by torch's FlopCounterMode in the same call, and both counts must agree. A model costs the
    same wherever it runs, so the count is made on a copy, on the CPU, in eval mode.

    Args:
        model: Takes (1, channels, height, width).
        image_size: Height and width of the image, in pixels: one number where they are equal.
        channels: Channels of the image.

    Returns:
        The parameters, as `count_parameters` names them; `macs_matmul`, `macs` and `macs_all` (see
        `CONVENTIONS`: the second is fvcore's, without average pooling, which it counts in one spelling
        only) and `macs_thop` (as thop 0.0.31 counted, see `ema_lab.cost.rules`); `activations`, the
        elements that convolutions, linear layers and matrix products write; `uncounted`, the operators
        that no rule counts, each with an estimate of one operation per output element.

    Raises:
        CostError: If the model cannot be traced, or the two counts disagree.
    """
    counted = _analysed(model, image_size, channels)[""]
    return {**count_parameters(model), **_summary(counted)}


def measure_layers(
    model: nn.Module, names: Sequence[str], *, image_size: int | tuple[int, int], channels: int = 3
) -> dict[str, dict[str, Any]]:
    """Count what some submodules cost, by name, as `measure_cost` counts a model."""
    counted = _analysed(model, image_size, channels)
    return {
        name: {**count_parameters(model.get_submodule(name)), **_summary(counted[name])} for name in names
    }


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return the number of a model's parameters; works on the meta device too.

    Returns:
        `parameters`; `parameters_without_norm`, no weight or bias of a normalisation layer;
        `parameters_trainable`; `parameters_fused`, with each batch norm that directly follows a
        convolution without bias made that convolution's bias, as for deployment.
    """
    norms = (p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False))
    norm = sum(parameter.numel() for parameter in {id(each): each for each in norms}.values())
    every = list(model.parameters())
    parameters = sum(parameter.numel() for parameter in every)
    return {
        "parameters": parameters,
        "parameters_without_norm": parameters - norm,
        "parameters_trainable": sum(parameter.numel() for parameter in every if parameter.requires_grad),
        "parameters_fused": parameters - sum(map(_fused, model.modules())),
    }


def _fused(module: nn.Module) -> int:
    """Return how many parameters a module's own convolutions save by taking in the norms after them."""
    pairs = itertools.pairwise(module.children())
    return sum(
        norm.num_features
        for conv, norm in pairs
        if isinstance(conv, nn.Conv2d) and conv.bias is None and isinstance(norm, nn.BatchNorm2d)
        if norm.affine and norm.num_features == conv.out_channels
    )


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


def _analysed(
    model: nn.Module, image_size: int | tuple[int, int], channels: int
) -> Mapping[str, Mapping[str, int]]:
    """Return the counts of each submodule by kind, checked against torch's own counter."""
    try:
        copied = copy.deepcopy(model).cpu().eval()
    except Exception as error:  # the model may hold anything
        raise CostError(
            f"the model cannot be copied, so nothing is counted: {error_summary(error)}"
        ) from error
    noise = torch.Generator().manual_seed(0)  # of zeros alone, code that looks at values may do nothing
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    image = torch.randn(1, channels, *sides, generator=noise)
    with _unfused():
        counted = _traced(copied, image)
        _cross_check(copied, image, counted[""])
    return counted


def _traced(model: nn.Module, image: torch.Tensor) -> Mapping[str, Mapping[str, int]]:
    analysis = _trace(model, image, {})
    if unknown := analysis.unsupported_ops():  # their shapes take another trace
        analysis = _trace(model, image, {name: uncounted(name) for name in unknown})
    found: Mapping[str, Mapping[str, int]] = analysis.by_module_and_operator()
    return found


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
            words = f"torch.jit cannot trace the model, so nothing is counted: {error_summary(error)}"
            raise CostError(words) from error
    return analysis


@contextmanager
def _unfused() -> Iterator[None]:
    """Compute attention by matrix products while a block runs: neither counter looks into fused kernels."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _cross_check(model: nn.Module, image: torch.Tensor, counted: Mapping[str, int]) -> None:
    """Hold the matrix products against FlopCounterMode, which is taught the products it does not know."""
    from torch.utils.flop_counter import FlopCounterMode

    taught = {getattr(torch.ops.aten, name): formula for name, formula in _UNKNOWN_TO_TORCH.items()}
    with FlopCounterMode(display=False, custom_mapping=taught) as flops, torch.no_grad():
        model(image)
    ours = sum(count for key, count in counted.items() if key.startswith("product "))
    if flops.get_total_flops() == 2 * ours:
        return
    mine = {key.removeprefix("product "): n for key, n in counted.items() if key.startswith("product ")}
    theirs = {str(op): count // 2 for op, count in flops.get_flop_counts().get("Global", {}).items()}
    raise CostError(
        f"two counters disagree on the multiply-adds of matrix products: {_listed(mine)} by our rules, "
        f"{_listed(theirs)} by torch's FlopCounterMode"
    )


# Operations, two per multiply-add, from the inputs' shapes.
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
