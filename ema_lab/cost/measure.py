"""Parameters and multiply-adds of a model."""

import copy
import logging
import warnings
from typing import Any

import torch
from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
# fvcore counts this layer but not the equal `mean`: a count must not depend on how pooling is written.
POOLING = "adaptive_avg_pool2d"
MATRIX_PRODUCTS = ("conv", "linear", "matmul", "bmm", "addmm")


def measure_cost(model: nn.Module, *, image_size: int, channels: int = 3) -> dict[str, Any]:
    """Count a classifier's parameters and its multiply-adds (MACs) for one image.

    MACs are fvcore's: one multiply-add is one. Convolutions, linear layers, matrix products and
    normalisations count; pooling does not. `uncounted` lists the operations that fvcore leaves out
    and how often each occurs. A model costs the same wherever it runs, so the count is made on a copy.

    Args:
        model: Takes (1, channels, image_size, image_size).
        image_size: Height and width of the image, in pixels.
        channels: Channels of the image.

    Returns:
        `parameters`; `parameters_without_norm` (no weight or bias of a normalisation layer);
        `macs`; `macs_matmul` (convolutions, linear layers and matrix products alone); `uncounted`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's deprecation, at fvcore's import and in its trace
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        image = torch.zeros(1, channels, image_size, image_size)
        analysis = FlopCountAnalysis(copy.deepcopy(model).cpu().eval(), image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator = {k: int(count) for k, count in analysis.by_operator().items() if k != POOLING}
        uncounted = dict(sorted(analysis.unsupported_ops().items()))
    return {
        **count_parameters(model),
        "macs": sum(by_operator.values()),
        "macs_matmul": sum(by_operator.get(name, 0) for name in MATRIX_PRODUCTS),
        "uncounted": uncounted,
    }


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return `parameters`, trained or not, and `parameters_without_norm`; works on the meta device too."""
    norm = sum(
        p.numel() for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "parameters_without_norm": parameters - norm}
